"""The HTTP application, built by a factory: nothing is opened at import time."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response

from app.api.errors import MethodNotAllowed
from app.api.fast_lane import FastLane
from app.api.health import Check, HealthMonitor
from app.api.middleware.access import AccessMiddleware
from app.api.middleware.failures import FailureMiddleware
from app.api.middleware.framing import FramingMiddleware
from app.api.middleware.head import HeadMiddleware
from app.api.middleware.root_path import RootPathMiddleware
from app.api.middleware.security_headers import SecurityHeadersMiddleware
from app.api.middleware.tracing import TraceMiddleware
from app.api.migration_check import MigrationCheck
from app.api.mounting import allowed_methods, mount_core, mount_plugin
from app.api.problems import answered, problem_response
from app.api.routes import ROOT_ROUTERS, ROUTERS
from app.api.services import ApiServices
from app.api.streaming import StreamDesk, closed_by_signals
from app.common.errors import TaskyardError

DESCRIPTION = """\
Typed functions as tasks: run them, watch them, fetch their results.
Errors are `application/problem+json` (RFC 9457) with a stable `code`;
`GET /api/v1/errors` lists the codes.
"""
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(services: ApiServices, *, lifespan: Lifespan | None = None) -> FastAPI:
    """Return the application; it closes the services at its end, unless `lifespan` does more.

    Raises PluginLoadError when a plugin's routes cannot be mounted.
    """
    app = FastAPI(
        title="Taskyard",
        version=version("taskyard"),
        description=DESCRIPTION,
        lifespan=_with_streams(lifespan or _close_services),
        # The document and its page are our own: no CDN. No redirect is made from the Host header.
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # From the outside in: each one sees what the inner ones answer.
        middleware=[
            Middleware(RootPathMiddleware, root_path=services.core.settings.server.root_path),
            Middleware(TraceMiddleware),
            Middleware(AccessMiddleware),
            Middleware(SecurityHeadersMiddleware),
            Middleware(FailureMiddleware),
            Middleware(FramingMiddleware),
            Middleware(HeadMiddleware),
            Middleware(FastLane),
        ],
        exception_handlers={
            TaskyardError: _answer_problem,
            RequestValidationError: _answer_problem,
            HTTPException: _answer_problem,
        },
    )
    app.state.services = services
    app.state.health = HealthMonitor(_checks(services), app.version)
    settings = services.core.settings.streams
    app.state.streams = StreamDesk(services.core.databases, settings)
    app.state.literal_paths = set()
    for router in ROOT_ROUTERS:
        mount_core(app, router, prefix="")
    for router in ROUTERS:
        mount_core(app, router)
    for plugin in services.core.plugins:
        mount_plugin(app, plugin)
    return app


def _with_streams(lifespan: Lifespan) -> Lifespan:
    """Return the lifespan during which a signal ends the streams."""

    @asynccontextmanager
    async def during(app: FastAPI) -> AsyncIterator[None]:
        with closed_by_signals(app.state.streams.streams.close):
            async with lifespan(app):
                yield

    return during


@asynccontextmanager
async def _close_services(app: FastAPI) -> AsyncIterator[None]:
    yield
    services = app.state.services
    assert isinstance(services, ApiServices)  # noqa: S101 - `create_app` has put them there
    await services.core.close()


async def _answer_problem(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == 405:
        allowed = ", ".join(sorted(allowed_methods(request.app, request.scope)))
        error = MethodNotAllowed(f"This path answers to {allowed}.", headers={"Allow": allowed})
    return answered(error) if isinstance(error, TaskyardError) else problem_response(error)


def _checks(services: ApiServices) -> dict[str, Check]:
    core = services.core
    checks: dict[str, Check] = {
        bind: partial(core.databases.ping, bind) for bind in core.databases.binds
    }
    return checks | {
        "redis": core.cache.ping,
        "broker": core.transport.ping,
        "storage": core.storage.ping,
        "migrations": MigrationCheck(core.databases, core.plugins),
    }
