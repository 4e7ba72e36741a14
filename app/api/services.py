"""What the application is built on; `app.main` puts it together and hands it to `create_app`."""

from dataclasses import dataclass

from starlette.requests import HTTPConnection

from app.auth.identity import Identity
from app.auth.tokens import TokenService
from app.tasks.services import Services


@dataclass(frozen=True, kw_only=True)
class ApiServices:
    """The services of the core and of identities."""

    core: Services
    identity: Identity
    tokens: TokenService


def services_of(connection: HTTPConnection) -> ApiServices:
    """Return the services of the application that serves this request."""
    services = connection.app.state.services
    assert isinstance(services, ApiServices)  # noqa: S101 - `create_app` has put them there
    return services
