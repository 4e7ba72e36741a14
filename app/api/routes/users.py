"""Users and service clients, for those who may manage them."""

from dataclasses import asdict
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from app.api.cursors import open_cursor, seal_cursor
from app.api.dependencies import get_identity, requires
from app.api.moments import Moment
from app.api.schemas import StrictBody
from app.auth.accounts import MAX_SCOPES, NAME_PATTERN, Account, ServiceClient
from app.auth.identity import Identity
from app.auth.passwords import MAX_BYTES, MIN_LENGTH
from app.auth.principal import Principal
from app.auth.scopes import SCOPE_PATTERN
from app.common.errors import NotFound
from app.common.ids import parse_id

router = APIRouter(tags=["users"])

Role = Literal["viewer", "operator", "admin"]
# The patterns are for the reader of the document; `app.auth` checks and says what is wrong.
Scope = Annotated[str, Field(max_length=128, json_schema_extra={"pattern": SCOPE_PATTERN})]
Scopes = Annotated[list[Scope], Field(max_length=MAX_SCOPES)]
Name = Annotated[
    str, Field(min_length=1, max_length=128, json_schema_extra={"pattern": NAME_PATTERN})
]
Password = Annotated[str, Field(min_length=MIN_LENGTH, max_length=MAX_BYTES)]
Limit = Annotated[int, Query(ge=1, le=200)]
Cursor = Annotated[str | None, Query(max_length=200)]

UserManager = Annotated[Principal, Depends(requires("users:manage"))]
IdentityService = Annotated[Identity, Depends(get_identity)]


class NewUser(StrictBody):
    """A user to make; `scopes` are granted beyond those of the role."""

    name: Name
    password: Password
    role: Role = "viewer"
    scopes: Scopes = Field(default_factory=list)
    tenant: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class UserChange(StrictBody):
    """What to change; a field that is left out stays."""

    password: Password | None = None
    role: Role | None = None
    scopes: Scopes | None = None
    is_active: bool | None = None


class UserView(BaseModel):
    """A user."""

    id: str
    name: str
    role: str
    scopes: list[str]
    is_active: bool
    tenant: str | None
    created_at: Moment
    updated_at: Moment
    last_login_at: Moment | None


class UserList(BaseModel):
    """A page of users, newest first."""

    items: list[UserView]
    next_cursor: str | None


class NewClient(StrictBody):
    """A service client to make, with all the scopes that it shall ever ask for."""

    name: Name
    scopes: Annotated[Scopes, Field(min_length=1)]
    tenant: Annotated[str, Field(min_length=1, max_length=64)] | None = None


class ClientView(BaseModel):
    """A service client."""

    client_id: str
    name: str
    scopes: list[str]
    is_active: bool
    tenant: str | None
    created_at: Moment


class NewClientView(ClientView):
    """A service client that was just made, with its secret, which is shown this once."""

    client_secret: str


class ClientList(BaseModel):
    """A page of service clients, newest first."""

    items: list[ClientView]
    next_cursor: str | None


@router.post("/users", status_code=201)
async def create_user(
    body: NewUser, response: Response, caller: UserManager, identity: IdentityService
) -> UserView:
    """Make a user."""
    account = await identity.create_user(
        body.name, body.password, body.role, scopes=body.scopes, tenant=body.tenant, by=caller
    )
    response.headers["Location"] = f"/api/v1/users/{account.id}"
    return _user(account)


@router.get("/users", dependencies=[Depends(requires("users:manage"))])
async def list_users(
    identity: IdentityService, limit: Limit = 50, cursor: Cursor = None
) -> UserList:
    """Return users, newest first."""
    found = await identity.list_users(limit + 1, _before(cursor, "users"))
    items = [_user(account) for account in found[:limit]]
    more = items[-1].id if len(found) > limit else None
    return UserList(items=items, next_cursor=seal_cursor(more, "users"))


@router.get("/users/{user_id}", dependencies=[Depends(requires("users:manage"))])
async def get_user(user_id: str, identity: IdentityService) -> UserView:
    """Return a user."""
    return _user(await identity.get_user(_id(user_id)))


@router.patch("/users/{user_id}")
async def update_user(
    user_id: str, body: UserChange, caller: UserManager, identity: IdentityService
) -> UserView:
    """Change a user; a new password, or being switched off, ends every login of the user."""
    account = await identity.update_user(
        _id(user_id),
        password=body.password,
        role=body.role,
        scopes=body.scopes,
        is_active=body.is_active,
        by=caller,
    )
    return _user(account)


@router.delete("/users/{user_id}", status_code=204)
async def delete_user(user_id: str, caller: UserManager, identity: IdentityService) -> None:
    """Remove a user."""
    await identity.delete_user(_id(user_id), by=caller)


@router.post("/clients", status_code=201)
async def create_client(
    body: NewClient, caller: UserManager, identity: IdentityService
) -> NewClientView:
    """Make a service client; the answer is the only place that ever shows its secret."""
    client = await identity.create_client(body.name, body.scopes, tenant=body.tenant, by=caller)
    return NewClientView(**_client(client).model_dump(), client_secret=client.secret or "")


@router.get("/clients", dependencies=[Depends(requires("users:manage"))])
async def list_clients(
    identity: IdentityService, limit: Limit = 50, cursor: Cursor = None
) -> ClientList:
    """Return service clients, newest first."""
    found = await identity.list_clients(limit + 1, _before(cursor, "clients"))
    items = [_client(client) for client in found[:limit]]
    more = items[-1].client_id if len(found) > limit else None
    return ClientList(items=items, next_cursor=seal_cursor(more, "clients"))


@router.delete("/clients/{client_id}", status_code=204)
async def delete_client(client_id: str, caller: UserManager, identity: IdentityService) -> None:
    """Remove a service client."""
    await identity.delete_client(_id(client_id), by=caller)


def _id(text: str) -> str:
    try:
        return parse_id(text)
    except ValueError:
        raise NotFound from None


def _before(cursor: str | None, scope: str) -> str | None:
    opened = open_cursor(cursor, scope)
    return None if opened is None else _id(opened)


def _user(account: Account) -> UserView:
    return UserView.model_validate(asdict(account) | {"scopes": list(account.scopes)})


def _client(client: ServiceClient) -> ClientView:
    return ClientView(
        client_id=client.id,
        name=client.name,
        scopes=list(client.scopes),
        is_active=client.is_active,
        tenant=client.tenant,
        created_at=client.created_at,
    )
