"""The short way through `POST /api/v1/tasks/run`, for a request that is plain and good.

FastAPI looks for the route among all others, resolves its dependencies and reads the body in
general ways, which takes longer than all that the run itself needs. The lane takes the usual
request and answers to the byte what the route would (docs/decisions/0012). What is unusual or wrong
goes on to the route, with its body, so that every refusal is made in one place.
"""

from typing import Final

from fastapi import Request
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from app.api.accepting import accepted_run, submit_run
from app.api.authentication import note_principal
from app.api.body import JSON, read_raw, replay
from app.api.facts import facts_of
from app.api.links import run_links
from app.api.mounting import API_PREFIX
from app.api.problems import answered
from app.api.schemas import RunTaskBody
from app.api.services import ApiServices, services_of
from app.auth.errors import InvalidToken
from app.auth.principal import Principal
from app.common.errors import TaskyardError
from app.common.strict_json import loads

PATH: Final = f"{API_PREFIX}/tasks/run"
_SCOPE: Final = "tasks:run"
# Larger ones are parsed on a thread.
_MOST_BYTES: Final = 64 * 1024
_JSON: Final = JSON.encode()
_NEEDED: Final = (b"authorization", b"content-type", b"content-length")
# Each of them gives the answer another form, or the body.
_UNUSUAL: Final = frozenset(
    {b"idempotency-key", b"prefer", b"content-encoding", b"transfer-encoding"}
)


class FastLane:
    """Answers plain submissions itself, and hands everything else on."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request."""
        token = _token_of(scope)
        if token is None:
            await self.app(scope, receive, send)
            return
        request = Request(scope, receive)
        services = services_of(request)
        facts_of(scope).route = PATH
        try:
            caller = await _caller_of(services, token)
            if caller is None:
                await self.app(scope, receive, send)
                return
            note_principal(scope, caller)
            limit = services.core.settings.limits.max_body_bytes
            raw = await read_raw(receive, limit)
            body = _body_of(raw)
            if body is None:
                await self.app(scope, replay(raw, receive), send)
                return
            accepted = await submit_run(body, services=services.core, caller=caller)
        except TaskyardError as error:
            await answered(error)(scope, receive, send)
            return
        links = run_links(request, accepted.task_id)
        document = accepted_run(accepted, links).model_dump_json(exclude_defaults=True).encode()
        headers = [
            (b"content-length", b"%d" % len(document)),
            (b"content-type", _JSON),
            (b"location", links["self"].encode()),
            (b"retry-after", b"1"),
        ]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": document})


def _token_of(scope: Scope) -> str | None:
    """Return the bearer token of a plain submission; None for every other request."""
    if (
        scope["type"] != "http"
        or scope["method"] != "POST"
        or scope["path"].removeprefix(scope.get("root_path", "")) != PATH
        or scope.get("query_string")
    ):
        return None
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in _UNUSUAL or (name in _NEEDED and name in found):
            return None
        found[name] = value
    length = found.get(b"content-length", b"")
    if (
        found.get(b"content-type") != _JSON
        or not length.isdigit()
        or not 0 < int(length) <= _MOST_BYTES
    ):
        return None
    scheme, _, token = found.get(b"authorization", b"").decode("latin-1").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


async def _caller_of(services: ApiServices, token: str) -> Principal | None:
    """Return the caller; None when the route has to refuse the token."""
    try:
        caller = await services.identity.principal_of(services.tokens.verify(token))
    except InvalidToken:
        return None
    return caller if caller.allows(_SCOPE) else None


def _body_of(raw: bytes) -> RunTaskBody | None:
    """Return the checked body; None when the route has to refuse it."""
    try:
        return RunTaskBody.model_validate(loads(raw))
    except (TaskyardError, ValidationError):
        return None
