"""What a route may ask for: the caller with the scopes it needs, and the services.

All of them are coroutines, because FastAPI runs a plain function in a thread.
"""

from typing import Annotated

from fastapi import Depends, Request

from app.api.authentication import principal_of
from app.api.services import services_of
from app.auth.identity import Identity
from app.auth.principal import Principal
from app.auth.tokens import TokenService
from app.common.errors import Forbidden
from app.tasks.services import Services


class Requires:
    """A dependency that returns the caller; Forbidden names the first scope that is missing."""

    def __init__(self, *scopes: str) -> None:
        self.scopes = scopes

    async def __call__(self, request: Request) -> Principal:
        """Return the caller."""
        principal = principal_of(request)
        for scope in self.scopes:
            if not principal.allows(scope):
                challenge = f'Bearer realm="taskyard", error="insufficient_scope", scope="{scope}"'
                raise Forbidden(
                    f"This needs the scope '{scope}'.",
                    hint="Ask an administrator for a role that has it.",
                    headers={"WWW-Authenticate": challenge},
                )
        return principal


def requires(*scopes: str) -> Requires:
    """Return a dependency for `Depends`: the caller as a Principal, which must hold every scope."""
    return Requires(*scopes)


async def get_services(request: Request) -> Services:
    """Return the services of the core."""
    return services_of(request).core


async def get_identity(request: Request) -> Identity:
    """Return the service that knows users, clients and their tokens."""
    return services_of(request).identity


async def get_token_service(request: Request) -> TokenService:
    """Return what signs and verifies access tokens."""
    return services_of(request).tokens


CoreServices = Annotated[Services, Depends(get_services)]
Caller = Annotated[Principal, Depends(requires())]
Reader = Annotated[Principal, Depends(requires("tasks:read"))]
Runner = Annotated[Principal, Depends(requires("tasks:run"))]
Manager = Annotated[Principal, Depends(requires("tasks:manage"))]
Admin = Annotated[Principal, Depends(requires("admin"))]
