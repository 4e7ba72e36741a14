"""Who is calling: a bearer token in the one Authorization header, and nowhere else."""

from fastapi import Request
from starlette.types import Scope

from app.api.facts import facts_of
from app.api.services import ApiServices, services_of
from app.auth.errors import InvalidToken
from app.auth.principal import Principal
from app.common.errors import Unauthorized
from app.common.logging import get_logger

_PRINCIPAL = "taskyard.principal"
_HINT = "Send 'Authorization: Bearer <token>'; POST /api/v1/auth/token gives a token."

log = get_logger(__name__)


async def authenticate(request: Request) -> Principal:
    """Return the caller; raises Unauthorized without a token.

    InvalidToken has the same body for every fault of a token; the log has the reason.
    """
    services = services_of(request)
    try:
        principal = await _principal_of(services, _bearer_token(request))
    except InvalidToken as error:
        log.info("auth.refused", reason=error.reason)
        raise
    note_principal(request.scope, principal)
    return principal


def note_principal(scope: Scope, principal: Principal) -> None:
    """Remember the caller for the routes and the log."""
    scope[_PRINCIPAL] = principal
    facts_of(scope).user = principal.name


def principal_of(request: Request) -> Principal:
    """Return the caller that the door has let in; Unauthorized on a public route."""
    principal = request.scope.get(_PRINCIPAL)
    if not isinstance(principal, Principal):
        raise _no_token()
    return principal


async def _principal_of(services: ApiServices, token: str) -> Principal:
    return await services.identity.principal_of(services.tokens.verify(token))


def _bearer_token(request: Request) -> str:
    values = request.headers.getlist("authorization")
    if not values:
        raise _no_token()
    scheme, _, token = values[0].partition(" ")
    if len(values) > 1 or scheme.lower() != "bearer" or not token:
        raise InvalidToken("not one bearer token")
    return token


def _no_token() -> Unauthorized:
    # RFC 6750, section 3.1: a request without any credentials gets no error code.
    challenge = {"WWW-Authenticate": 'Bearer realm="taskyard"'}
    return Unauthorized("An access token is required.", hint=_HINT, headers=challenge)
