"""Who is calling: a bearer token in the one Authorization header, and nowhere else."""

from fastapi import Request

from app.api.facts import facts_of
from app.api.services import ApiServices, services_of
from app.auth.principal import Principal
from app.common.errors import Unauthorized
from app.common.logging import get_logger

_PRINCIPAL = "taskyard.principal"
_REQUIRED = "A valid access token is required."
_HINT = "Send it as 'Authorization: Bearer <token>'; POST /api/v1/auth/token gives one."

log = get_logger(__name__)


async def authenticate(request: Request) -> Principal:
    """Return the caller; Unauthorized has the same body for every fault, the log has the reason."""
    services = services_of(request)
    token = _bearer_token(request)
    try:
        principal = await _principal_of(services, token)
    except Unauthorized as error:
        raise _refusal(error.detail, invalid=True) from error
    request.scope[_PRINCIPAL] = principal
    facts_of(request.scope).user = principal.name
    return principal


def principal_of(request: Request) -> Principal:
    """Return the caller that the door has let in; Unauthorized on a public route."""
    principal = request.scope.get(_PRINCIPAL)
    if not isinstance(principal, Principal):
        raise _refusal("the route is public")
    return principal


async def _principal_of(services: ApiServices, token: str) -> Principal:
    return await services.identity.principal_of(services.tokens.verify(token))


def _bearer_token(request: Request) -> str:
    values = request.headers.getlist("authorization")
    if not values:
        raise _refusal("no Authorization header")
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token or token != token.strip():
        raise _refusal("not one bearer token", invalid=True)
    return token


def _refusal(reason: str, *, invalid: bool = False) -> Unauthorized:
    log.info("auth.refused", reason=reason)
    # RFC 6750, section 3.1: a request without any credentials gets no error code.
    challenge = 'Bearer realm="taskyard"' + (', error="invalid_token"' if invalid else "")
    return Unauthorized(_REQUIRED, hint=_HINT, headers={"WWW-Authenticate": challenge})
