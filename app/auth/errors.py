"""What can go wrong when somebody says who they are.

    Unauthorized
    |-- InvalidToken               401 INVALID_TOKEN
    |-- InvalidCredentials         401 INVALID_CREDENTIALS     error=invalid_grant
    `-- InvalidClient              401 INVALID_CLIENT          error=invalid_client
    BadRequest
    |-- InvalidGrant               400 INVALID_GRANT           error=invalid_grant
    |-- InvalidScope               400 INVALID_SCOPE           error=invalid_scope
    |-- InvalidTokenRequest        400 INVALID_TOKEN_REQUEST   error=invalid_request
    `-- UnsupportedGrantType       400 UNSUPPORTED_GRANT_TYPE  error=unsupported_grant_type
    TooManyRequests
    `-- TooManyLogins              429 TOO_MANY_LOGINS
    Conflict
    |-- NameTaken                  409 NAME_TAKEN
    `-- LastAdmin                  409 LAST_ADMIN
    Forbidden
    `-- GrantTooWide               403 GRANT_TOO_WIDE

`error` is the code of RFC 6749, section 5.2, which OAuth clients look for.
"""

from typing import ClassVar

from app.common.errors import BadRequest, Conflict, Forbidden, TooManyRequests, Unauthorized


class InvalidToken(Unauthorized):
    """The access token is not valid: forged, expired, revoked, or its owner is gone."""

    code = "INVALID_TOKEN"
    title = "Access token not valid"

    def __init__(self, reason: str) -> None:
        # The body is the same for every fault; the reason is for the log.
        super().__init__(
            "The access token is not valid.",
            headers={"WWW-Authenticate": 'Bearer realm="taskyard", error="invalid_token"'},
        )
        self.reason = reason


class InvalidCredentials(Unauthorized):
    """User name and password do not belong together."""

    code = "INVALID_CREDENTIALS"
    title = "Wrong user name or password"
    error: ClassVar[str] = "invalid_grant"


class InvalidClient(Unauthorized):
    """The service client is unknown, or its secret is wrong."""

    code = "INVALID_CLIENT"
    title = "Service client not valid"
    error: ClassVar[str] = "invalid_client"

    def __init__(self) -> None:
        challenge = 'Basic realm="taskyard", charset="UTF-8"'
        super().__init__(headers={"WWW-Authenticate": challenge})


class InvalidGrant(BadRequest):
    """The refresh token is unknown, expired, revoked, or was used before."""

    code = "INVALID_GRANT"
    title = "Refresh token not valid"
    error: ClassVar[str] = "invalid_grant"


class InvalidScope(BadRequest):
    """A scope was asked for that does not exist or that the caller was not granted."""

    code = "INVALID_SCOPE"
    title = "Scope not granted"
    error: ClassVar[str] = "invalid_scope"


class InvalidTokenRequest(BadRequest):
    """A parameter of the token request is missing, doubled, or does not belong to its grant."""

    code = "INVALID_TOKEN_REQUEST"
    title = "Token request not valid"
    error: ClassVar[str] = "invalid_request"


class UnsupportedGrantType(BadRequest):
    """The grant type is none of password, refresh_token and client_credentials."""

    code = "UNSUPPORTED_GRANT_TYPE"
    title = "Grant type not supported"
    error: ClassVar[str] = "unsupported_grant_type"


class TooManyLogins(TooManyRequests):
    """Too many logins failed for this account or from this address."""

    code = "TOO_MANY_LOGINS"
    title = "Too many failed logins"

    def __init__(self, *, retry_after_seconds: int, limit: int, window_seconds: int) -> None:
        super().__init__(
            "Too many logins failed; wait before the next one.",
            policy="login",
            limit=limit,
            retry_after_seconds=retry_after_seconds,
            window_seconds=window_seconds,
        )


class NameTaken(Conflict):
    """Another user or service client has this name."""

    code = "NAME_TAKEN"
    title = "Name taken"


class LastAdmin(Conflict):
    """This is the last active administrator; without one nobody could manage the others."""

    code = "LAST_ADMIN"
    title = "Last administrator"


class GrantTooWide(Forbidden):
    """Nobody can grant, or take charge of, more than they hold themselves."""

    code = "GRANT_TOO_WIDE"
    title = "Grant exceeds your own"
