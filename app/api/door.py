"""The one door of every route: token, then query, then body; a plugin's routes pass it as well.

It is a route class, and not a dependency, because FastAPI reads and parses a
body before it runs any dependency; here an unknown caller's body is never read.
"""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, ClassVar, TypeVar

from fastapi import Request, params
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from app.api.authentication import authenticate
from app.api.body import read_form, read_json, refuse_large, watch_upload
from app.api.facts import facts_of
from app.api.queries import QueryRules, check_path_values
from app.api.services import services_of
from app.common.errors import TaskyardError
from app.config.settings import LimitsSettings

MAX_FORM_BYTES = 64 * 1024
_MULTIPART_OVERHEAD_BYTES = 64 * 1024

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_public: set[Callable[..., Any]] = set()
_batches: set[Callable[..., Any]] = set()


def public(endpoint: Endpoint) -> Endpoint:
    """Mark a route of the core that needs no token; a plugin's route cannot be public."""
    _public.add(endpoint)
    return endpoint


def takes_batches(endpoint: Endpoint) -> Endpoint:
    """Mark a route whose JSON body may be as large as `limits.max_batch_body_bytes`."""
    _batches.add(endpoint)
    return endpoint


def is_public(endpoint: Callable[..., Any] | None) -> bool:
    """Return whether `public` marks the endpoint."""
    return endpoint in _public


class DoorRoute(APIRoute):
    """A route that needs a valid token and reads its body strictly."""

    needs_token: ClassVar[bool] = True
    # Not FastAPI's `max_body_size`, whose refusal is plain text.
    body_limit: int | None = None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind the door."""
        handle = super().get_route_handler()
        rules = QueryRules.of(self.dependant)

        async def enter(request: Request) -> Response:
            check_path_values(request.path_params)
            if self.needs_token:
                await authenticate(request)
            rules.check(request.query_params)
            checked = await _read_body(self, request, services_of(request).core.settings.limits)
            try:
                return _without_type(await handle(checked))
            except HTTPException as error:
                # FastAPI wraps what goes wrong while it reads a form; the cause says more.
                if isinstance(error.__cause__, TaskyardError):
                    raise error.__cause__ from None
                raise

        return enter

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as usual, but never read a literal path of another route as a parameter.

        So `GET /tasks/run` is 405 and not a run called "run".
        """
        match, child_scope = super().matches(scope)
        if match is not Match.NONE and self.param_convertors:
            literals: set[str] = scope["app"].state.literal_paths
            if scope["path"].removeprefix(scope.get("root_path", "")) in literals:
                return Match.NONE, {}
        return match, child_scope

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note the full template for log and metrics, then run the route."""
        facts_of(scope).route = self.path_format
        await super().handle(scope, receive, send)


class PublicRoute(DoorRoute):
    """A route of the core that is open to everybody."""

    needs_token = False


def _without_type(answer: Response) -> Response:
    """Return the answer; FastAPI gives a type even to one that has no content."""
    if answer.status_code == HTTPStatus.NO_CONTENT and "content-type" in answer.headers:
        del answer.headers["content-type"]
    return answer


async def _read_body(route: DoorRoute, request: Request, limits: LimitsSettings) -> Request:
    """Return the request with its body checked; a route's own size limit wins over the settings."""
    info = route.body_field.field_info if route.body_field else None
    if isinstance(info, params.File):
        largest = limits.max_upload_mb * 2**20 + _MULTIPART_OVERHEAD_BYTES
        return watch_upload(request, route.body_limit or largest)
    if isinstance(info, params.Form):
        return await read_form(request, route.body_limit or MAX_FORM_BYTES)
    if info is not None:
        is_batch = route.endpoint in _batches
        largest = limits.max_batch_body_bytes if is_batch else limits.max_body_bytes
        return await read_json(request, route.body_limit or largest)
    refuse_large(request.headers, limits.max_body_bytes)
    return request
