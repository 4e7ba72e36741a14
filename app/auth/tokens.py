"""Access tokens: JWTs of one algorithm, read more strictly than the library would.

The library takes doubled claims (the last one wins), numbers written as text and
a life of centuries; a token of ours has none of that, so nothing else is let in.
"""

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jwt

from app.auth.errors import InvalidToken
from app.auth.keys import SigningKey
from app.auth.principal import Kind, Principal
from app.auth.scopes import is_scope, scope_text
from app.common import strict_json
from app.common.errors import TaskyardError, ValidationFailed
from app.common.ids import new_id, parse_id

TYPE = "at+jwt"
MAX_TOKEN_BYTES = 8192
MAX_LIFE_SECONDS = 86_400
LEEWAY_SECONDS = 3
_MOST_VERIFIED = 10_000
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+", re.ASCII)
_KINDS: tuple[Kind, ...] = ("user", "client")
_REQUIRED = ("iss", "aud", "sub", "exp", "iat", "jti", "scope", "kind", "ver")


@dataclass(frozen=True, slots=True)
class Claims:
    """What a valid access token says. Times are seconds since 1970."""

    subject: str
    kind: Kind
    scopes: frozenset[str]
    token_id: str
    session_id: str | None
    version: int
    issued_at: int
    expires_at: int


class TokenService:
    """Signs and verifies access tokens with one key and one algorithm."""

    def __init__(
        self, key: SigningKey, *, issuer: str, audience: str, access_token_seconds: int
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self.access_token_seconds = access_token_seconds
        self._max_life = max(access_token_seconds, MAX_LIFE_SECONDS)
        # By digest: the tokens themselves are kept nowhere.
        self._verified: dict[bytes, Claims] = {}

    def issue(
        self,
        principal: Principal,
        scopes: Iterable[str] | None = None,
        expires_in: int | None = None,
        *,
        session_id: str | None = None,
    ) -> str:
        """Return a signed token with these scopes, or all of the principal's.

        ``expires_in`` is in seconds. ``session_id`` ties the token to a login, with
        which it is revoked. Raises ValidationFailed for a life that is not allowed.
        """
        life = self.access_token_seconds if expires_in is None else expires_in
        if not 0 < life <= self._max_life:
            raise ValidationFailed(f"A token lives 1 to {self._max_life} seconds.")
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": principal.id,
            "iat": now,
            "exp": now + life,
            "jti": new_id(),
            "scope": scope_text(principal.scopes if scopes is None else scopes),
            "kind": principal.kind,
            "ver": principal.version,
        }
        if session_id is not None:
            claims["sid"] = session_id
        headers = {"typ": TYPE, "kid": self._key.kid}
        return jwt.encode(claims, self._key.private, self._key.algorithm, headers=headers)

    def verify(self, token: str) -> Claims:
        """Return the claims; raises InvalidToken, whose ``reason`` is for the log only.

        A token that was good once is looked at again only for its time: nothing else of it can
        change. Who it stands for and whether it was revoked is asked elsewhere, each time.
        """
        digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        claims = self._verified.get(digest)
        if claims is None or not _is_now(claims):
            claims = self._verify(token)
            if len(self._verified) >= _MOST_VERIFIED:
                self._verified.clear()
            self._verified[digest] = claims
        return claims

    def _verify(self, token: str) -> Claims:
        try:
            self._check_header(*_parts(token))
            return self._claims(token)
        except jwt.PyJWTError as error:
            raise InvalidToken(str(error)) from None
        except TaskyardError as error:
            reason = error.reason if isinstance(error, InvalidToken) else "not strict JSON"
            raise InvalidToken(reason) from None

    def jwks(self) -> dict[str, list[Mapping[str, str]]]:
        """Return the public keys as RFC 7517 writes them; none for an HMAC secret."""
        return {"keys": [self._key.jwk] if self._key.jwk else []}

    def _check_header(self, header: dict[str, Any], claims: dict[str, Any]) -> None:
        # Any further member (crit, b64, zip, jku, x5u, jwk) asks for something that we do not do.
        expected = {"typ": TYPE, "alg": self._key.algorithm, "kid": self._key.kid}
        if header != expected:
            raise InvalidToken("header is not ours")
        _check_types(claims)
        if claims["exp"] - claims["iat"] > self._max_life:
            raise InvalidToken("life too long")

    def _claims(self, token: str) -> Claims:
        payload = jwt.decode(
            token,
            self._key.public,
            algorithms=[self._key.algorithm],
            audience=self._audience,
            issuer=self._issuer,
            leeway=LEEWAY_SECONDS,
            options={"require": list(_REQUIRED)},
        )
        return Claims(
            subject=payload["sub"],
            kind=payload["kind"],
            scopes=frozenset(payload["scope"].split(" ")) - {""},
            token_id=payload["jti"],
            session_id=payload.get("sid"),
            version=payload["ver"],
            issued_at=payload["iat"],
            expires_at=payload["exp"],
        )


def _is_now(claims: Claims) -> bool:
    """Return whether the library would still take the times; a clock may also have gone back."""
    now = time.time()
    return claims.issued_at <= now + LEEWAY_SECONDS and claims.expires_at > now - LEEWAY_SECONDS


def _parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    if len(token) > MAX_TOKEN_BYTES:
        raise InvalidToken("too long")
    if not _FORM.fullmatch(token):
        raise InvalidToken("not three parts of base64url")
    header, payload, signature = token.split(".")
    _decode(signature)
    return _object(header), _object(payload)


def _object(part: str) -> dict[str, Any]:
    value = strict_json.loads(_decode(part))
    if not isinstance(value, dict):
        raise InvalidToken("a part is not an object")
    return value


def _decode(part: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except binascii.Error:
        raise InvalidToken("a part is not base64url") from None


def _check_types(claims: dict[str, Any]) -> None:
    """Refuse claims of another type or form than we write."""
    if any(name not in claims for name in _REQUIRED):
        raise InvalidToken("a claim is missing")
    for name in ("exp", "iat", "ver", "nbf"):
        if type(claims.get(name, 0)) is not int:
            raise InvalidToken(f"{name} is not an integer")
    for name in ("iss", "sub", "jti", "scope", "kind", "sid"):
        if not isinstance(claims.get(name, ""), str):
            raise InvalidToken(f"{name} is not text")
    audience = claims["aud"]
    if not isinstance(audience, str) and not _is_list_of_text(audience):
        raise InvalidToken("aud is not text")
    if claims["kind"] not in _KINDS or claims["exp"] <= claims["iat"]:
        raise InvalidToken("kind or life is not possible")
    if not all(is_scope(one) for one in claims["scope"].split(" ") if one):
        raise InvalidToken("scope is malformed")
    _check_ids(claims)


def _check_ids(claims: dict[str, Any]) -> None:
    for name in ("sub", "jti", "sid"):
        try:
            if name in claims and parse_id(claims[name]) != claims[name]:
                raise InvalidToken(f"{name} is not canonical")
        except ValueError:
            raise InvalidToken(f"{name} is not an id") from None


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, str) for one in value)
