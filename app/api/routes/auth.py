"""Tokens: given, handed back, and looked at (RFC 6749, 7009 and 7517)."""

import base64
import binascii
from typing import Annotated, Any, Literal
from urllib.parse import unquote_plus

from fastapi import APIRouter, Depends, Form, Request, Response
from pydantic import BaseModel

from app.api.dependencies import Caller, get_identity, get_token_service
from app.api.door import public
from app.api.problems import PROBLEM_JSON, problem_response
from app.auth.errors import (
    InvalidClient,
    InvalidCredentials,
    InvalidGrant,
    InvalidScope,
    InvalidTokenRequest,
    UnsupportedGrantType,
)
from app.auth.identity import Identity, TokenPair
from app.auth.tokens import TokenService
from app.common.strict_json import dump_bytes, loads

router = APIRouter(tags=["auth"])
root_router = APIRouter(tags=["auth"])

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_JWKS_PATH = "/.well-known/jwks.json"
OAUTH_ERRORS = (
    InvalidClient,
    InvalidCredentials,
    InvalidGrant,
    InvalidScope,
    InvalidTokenRequest,
    UnsupportedGrantType,
)

IdentityService = Annotated[Identity, Depends(get_identity)]


class TokenForm(BaseModel):
    """The parameters of all three grants; unknown ones are passed over (RFC 6749, section 3.2)."""

    grant_type: str | None = None
    username: str | None = None
    password: str | None = None
    refresh_token: str | None = None
    client_id: str | None = None
    client_secret: str | None = None
    scope: str | None = None


class TokenAnswer(BaseModel):
    """What a grant gives; `expires_in` is in seconds. Clients get no refresh token."""

    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - a type, not a token
    expires_in: int
    refresh_token: str | None = None
    scope: str


class Me(BaseModel):
    """The caller, with the scopes that its token has."""

    id: str
    name: str
    kind: Literal["user", "client"]
    role: str
    scopes: list[str]
    tenant: str | None


class KeySet(BaseModel):
    """The public keys that verify access tokens; none when a secret signs them."""

    keys: list[dict[str, str]]


@public
@router.post("/auth/token", response_model=TokenAnswer, response_model_exclude_none=True)
async def create_token(
    request: Request,
    response: Response,
    form: Annotated[TokenForm, Form()],
    identity: IdentityService,
) -> Any:
    """Return an access token for a password, a refresh token or a client's secret."""
    response.headers.update(NO_STORE)
    try:
        await _refuse_repeated(request)
        pair = await _grant(request, form, identity)
    except OAUTH_ERRORS as error:
        return _oauth_problem(error)
    return TokenAnswer(
        access_token=pair.access_token,
        expires_in=pair.expires_in,
        refresh_token=pair.refresh_token,
        scope=pair.scope,
    )


@router.post("/auth/revoke", response_class=Response)
async def revoke_token(
    token: Annotated[str, Form(max_length=8192)],
    caller: Caller,
    identity: IdentityService,
    token_type_hint: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Revoke a token of the caller's; an unknown one is answered the same way (RFC 7009)."""
    del token_type_hint  # A token of ours shows its kind by its form.
    await identity.revoke(token, caller)
    return Response(headers=NO_STORE)


@router.get("/auth/me")
async def get_me(caller: Caller) -> Me:
    """Return the caller."""
    return Me(
        id=caller.id,
        name=caller.name,
        kind=caller.kind,
        role=caller.role,
        scopes=sorted(caller.scopes),
        tenant=caller.tenant,
    )


@public
@router.get(_JWKS_PATH)
async def get_key_set(tokens: Annotated[TokenService, Depends(get_token_service)]) -> KeySet:
    """Return the public keys."""
    return KeySet(keys=[dict(key) for key in tokens.jwks()["keys"]])


@public
@root_router.get(_JWKS_PATH, include_in_schema=False)
async def get_root_key_set(tokens: Annotated[TokenService, Depends(get_token_service)]) -> KeySet:
    """Return the public keys where RFC 8615 has clients look for them."""
    return await get_key_set(tokens)


async def _grant(request: Request, form: TokenForm, identity: Identity) -> TokenPair:
    address = request.client.host if request.client else ""
    client = _client_of(request, form)
    if form.grant_type == "client_credentials":
        if client is None:
            raise InvalidClient
        return await identity.client_credentials_grant(*client, form.scope, address)
    if form.grant_type == "refresh_token":
        if client is not None:
            # Only people get refresh tokens, so none was issued to this client.
            raise InvalidGrant
        return await identity.refresh_grant(_needed(form, "refresh_token"), form.scope)
    if form.grant_type == "password":
        username, password = _needed(form, "username"), _needed(form, "password")
        return await identity.password_grant(username, password, form.scope, address)
    if form.grant_type is None:
        raise InvalidTokenRequest("The parameter 'grant_type' is missing.")
    raise UnsupportedGrantType("The grant types are password, refresh_token, client_credentials.")


async def _refuse_repeated(request: Request) -> None:
    names = [name for name, _ in (await request.form()).multi_items()]
    if len(names) != len(set(names)):
        raise InvalidTokenRequest("A parameter stands twice.")


def _needed(form: TokenForm, name: str) -> str:
    value: str | None = getattr(form, name)
    if not value:
        raise InvalidTokenRequest(f"The parameter '{name}' is missing.")
    return value


def _client_of(request: Request, form: TokenForm) -> tuple[str, str] | None:
    """Return the client's id and secret, from the form or from Basic authentication."""
    # An access token says nothing of a client, and many programs send theirs with every request.
    headers = [
        header
        for header in request.headers.getlist("authorization")
        if header.partition(" ")[0].lower() != "bearer"
    ]
    if not headers:
        if not form.client_secret:
            return None
        return form.client_id or "", form.client_secret
    if len(headers) > 1 or form.client_secret:
        raise InvalidTokenRequest("The client says who it is in more than one way.")
    return _basic(headers[0])


def _basic(header: str) -> tuple[str, str]:
    scheme, _, encoded = header.partition(" ")
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidClient from None
    name, colon, secret = text.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise InvalidClient
    # RFC 6749, section 2.3.1: both are form-encoded inside.
    return unquote_plus(name), unquote_plus(secret)


def _oauth_problem(error: Any) -> Response:
    """Return the problem document with the member `error` that OAuth clients look for."""
    answer = problem_response(error)
    document = loads(bytes(answer.body))
    document |= {"error": error.error, "error_description": error.detail}
    headers = {**error.headers, **NO_STORE}
    if challenge := answer.headers.get("www-authenticate"):
        headers["WWW-Authenticate"] = challenge
    return Response(dump_bytes(document), answer.status_code, headers, PROBLEM_JSON)
