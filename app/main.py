"""The door to the API: settings, services, identities and routes put together.

`uvicorn --factory app.main:create_api` serves it; `taskyard api` and `taskyard dev` do the same.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError
from uvicorn.supervisors import Multiprocess

from app.api.application import create_app
from app.api.services import ApiServices
from app.auth.identity import Identity, first_admin_name, open_identity, open_tokens
from app.celery_worker.embedded import EmbeddedWorker
from app.celery_worker.publisher import open_transport
from app.common.errors import ServiceUnavailable
from app.common.logging import configure_logging
from app.config import Settings, load_settings
from app.config.settings import APPLICATION_BIND
from app.db import migrations
from app.db.databases import Databases
from app.tasks.services import load_code, open_services

ADMIN_TOKEN_SECONDS = 86_400


def create_api(settings: Settings | None = None) -> FastAPI:
    """Return the API of a deployment whose workers are processes of their own."""
    settings = settings or load_settings()
    configure_logging(settings.logging.level, settings.logging.format)
    return _build(settings, None)


def create_embedded_api(settings: Settings) -> FastAPI:
    """Return the API with the worker and the beat in this process, started and stopped with it."""
    return _build(settings, EmbeddedWorker(settings))


def migrate(settings: Settings) -> None:
    """Bring every database of the settings to its newest revision."""
    plugins, _ = load_code(settings)
    databases = Databases(settings.databases)
    try:
        migrations.upgrade(databases, plugins)
    finally:
        databases.dispose_sync()


async def first_admin(settings: Settings) -> tuple[str | None, str]:
    """Make the first administrator if there is no user; return the password and an access token.

    The password is None unless it was made up now. The token is good for a day.
    """
    databases = Databases(settings.databases)
    identity = open_identity(settings, databases, open_tokens(settings))
    try:
        password = await identity.bootstrap_admin()
        name = first_admin_name(settings)
        return password, await identity.issue_for(name, expires_in=ADMIN_TOKEN_SECONDS)
    finally:
        identity.close()
        await databases.dispose()


def server_config(app: FastAPI | str, settings: Settings, **options: object) -> uvicorn.Config:
    """Return uvicorn's configuration with our limits; `options` are uvicorn's own."""
    values: dict[str, object] = {
        "host": settings.server.host,
        "port": settings.server.port,
        "factory": isinstance(app, str),
        "log_config": None,
        "access_log": False,
        "server_header": False,
        "date_header": True,
        "timeout_keep_alive": 15,
        # A client that follows a stream would hold the stop up for ever.
        "timeout_graceful_shutdown": settings.server.shutdown_grace_seconds,
        "h11_max_incomplete_event_size": 65_536,
        **options,
    }
    return uvicorn.Config(app, **values)  # type: ignore[arg-type] # checked by uvicorn itself


def serve_api(settings: Settings) -> None:
    """Serve the API until a signal ends it; with several workers each is a process of its own."""
    config = server_config("app.main:create_api", settings, workers=settings.server.workers)
    if settings.server.workers > 1:
        Multiprocess(config, [config.bind_socket()]).run()
    else:
        uvicorn.Server(config).run()


def free_socket(host: str, port: int) -> socket.socket:
    """Return a socket bound to the address; port 0 takes any free one."""
    listening = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


def _build(settings: Settings, worker: EmbeddedWorker | None) -> FastAPI:
    transport = open_transport(settings)
    core = open_services(settings, transport=transport)
    tokens = open_tokens(settings)
    identity = open_identity(settings, core.databases, tokens)
    services = ApiServices(core=core, identity=identity, tokens=tokens)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await _ensure_admin(identity)
        await _warm_up(core.databases)
        if worker is not None:
            await asyncio.to_thread(worker.start)
        try:
            yield
        finally:
            if worker is not None:
                await asyncio.to_thread(worker.stop)
            identity.close()
            await core.close()

    return create_app(services, lifespan=lifespan)


async def _warm_up(databases: Databases) -> None:
    """Open the application's connections before the first request; without its database the API
    starts all the same, and says so on its readiness page.
    """
    with contextlib.suppress(DBAPIError, ServiceUnavailable, OSError):
        await databases.warm_up(APPLICATION_BIND)


async def _ensure_admin(identity: Identity) -> None:
    """Make the configured first administrator; before the migrations there is nothing to make."""
    try:
        await identity.bootstrap_admin()
    except DBAPIError:
        return
