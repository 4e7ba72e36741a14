"""The HTTP API over a kit: the real application with its door, without a socket."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx2
from pydantic import SecretStr

from app.api.application import create_app
from app.api.services import ApiServices
from app.auth.identity import open_identity, open_tokens
from app.config.settings import JwtSettings
from app.testing.kit import Kit

Response = httpx2.Response
_SECRET = SecretStr("the key of a kit, which signs for nobody else")


class Http:
    """Calls routes by their full path, such as `/api/v1/notes`, as a user of a role.

    `role` is "viewer", "operator" or "admin"; None sends no token. `scopes` takes the
    place of the role's. What a request submits waits in the kit: `kit.work()` runs it.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        settings = kit.services.settings
        auth = settings.auth.model_copy(update={"jwt": JwtSettings(secret=_SECRET)})
        tokens = open_tokens(settings.model_copy(update={"auth": auth}))
        self._identity = open_identity(settings, kit.services.databases, tokens)
        self.app = create_app(
            ApiServices(core=kit.services, identity=self._identity, tokens=tokens)
        )
        self._client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app), base_url="http://kit"
        )
        self._tokens: dict[object, str] = {}

    def request(
        self,
        method: str,
        path: str,
        *,
        role: str | None = "operator",
        scopes: tuple[str, ...] | None = None,
        **options: Any,
    ) -> Response:
        """Return the answer; `options` are httpx's own: `json`, `params`, `files`, `headers` …"""
        return self._kit.call(self._request(method, path, role, scopes, options))

    def get(self, path: str, **options: Any) -> Response:
        """Return the answer to a GET."""
        return self.request("GET", path, **options)

    def post(self, path: str, **options: Any) -> Response:
        """Return the answer to a POST."""
        return self.request("POST", path, **options)

    def close(self) -> None:
        """Let go of the application; the kit stays open."""
        self._kit.call(self._client.aclose())
        self._identity.close()

    async def _request(
        self,
        method: str,
        path: str,
        role: str | None,
        scopes: tuple[str, ...] | None,
        options: dict[str, Any],
    ) -> Response:
        headers = dict(options.pop("headers", {}))
        if role is not None:
            headers.setdefault("Authorization", f"Bearer {await self._token(role, scopes)}")
        answer = await self._client.request(method, path, headers=headers, **options)
        # The application sends in the background what the kit hands out.
        await self._kit.services.outbox.close()
        return answer

    async def _token(self, role: str, scopes: tuple[str, ...] | None) -> str:
        key = role if scopes is None else scopes
        if key not in self._tokens:
            name = f"kit-{len(self._tokens)}"
            if scopes is None:
                await self._identity.create_user(name, "a password of the kit", role)  # type: ignore[arg-type]  # checked there
            else:
                await self._identity.create_user(name, "a password of the kit", scopes=scopes)
            self._tokens[key] = await self._identity.issue_for(name)
        return self._tokens[key]


@contextmanager
def open_http(kit: Kit) -> Iterator[Http]:
    """Yield the HTTP API over the kit, with the routes of its plugins."""
    http = Http(kit)
    try:
        yield http
    finally:
        http.close()
