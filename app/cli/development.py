"""`taskyard dev`: the embedded form, served until it is stopped."""

import asyncio
import os
import sys
import webbrowser
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from app.common.logging import configure_logging
from app.config import Settings, load_settings
from app.main import create_embedded_api, first_admin, free_socket, migrate, server_config

_DATA_DIR = "TASKYARD_DATA_DIR"
_HOST = "TASKYARD_SERVER__HOST"
_PORT = "TASKYARD_SERVER__PORT"


def run_dev(host: str, port: int, data_dir: Path | None, *, open_browser: bool) -> None:
    """Migrate, make the first administrator, say where everything is, and serve."""
    listening = free_socket(host, port)
    settings = _dev_settings(data_dir, host, listening.getsockname()[1])
    configure_logging(settings.logging.level, settings.logging.format)
    address = f"http://{host}:{settings.server.port}"
    _prepare(settings, address)
    if open_browser and sys.stdout.isatty():
        webbrowser.open(f"{address}/docs")
    config = server_config(create_embedded_api(settings), settings)
    uvicorn.Server(config).run(sockets=[listening])


def run_dev_with_reload(host: str, port: int, data_dir: Path | None) -> None:
    """Serve from a child process that is started again when Python code below this folder
    changes.
    """
    from uvicorn.supervisors import ChangeReload

    settings = _dev_settings(data_dir, host, port)
    # The child reads them in `create_reloaded_api`.
    os.environ |= {_DATA_DIR: str(settings.data_dir), _HOST: host, _PORT: str(port)}
    _prepare(settings, f"http://{host}:{port}")
    config = server_config("app.cli.development:create_reloaded_api", settings, reload=True)
    ChangeReload(config, uvicorn.Server(config).run, [config.bind_socket()]).run()


def create_reloaded_api() -> FastAPI:
    """Return the embedded API of the folder that `run_dev_with_reload` was given."""
    settings = _dev_settings(Path(os.environ[_DATA_DIR]), os.environ[_HOST], int(os.environ[_PORT]))
    configure_logging(settings.logging.level, settings.logging.format)
    return create_embedded_api(settings)


def _dev_settings(data_dir: Path | None, host: str, port: int) -> Settings:
    """Return the embedded settings, with the address that is really listened on."""
    settings = load_settings(data_dir=data_dir, embedded=True)
    server = settings.server.model_copy(update={"host": host, "port": port})
    return settings.model_copy(update={"server": server})


def _prepare(settings: Settings, address: str) -> None:
    migrate(settings)
    password, token = asyncio.run(first_admin(settings))
    lines = [
        "",
        f"  Taskyard runs at   {address}",
        f"  API documentation  {address}/docs",
        f"  Data folder        {settings.data_dir}/ (SQLite; the broker is in this process)",
    ]
    if password is not None:
        lines.append(f"  First user         admin, password {password}  (shown only now)")
    lines += [
        "",
        "  Try it:",
        f"  curl -s {address}/api/v1/tasks/run -H 'Authorization: Bearer {token}' \\",
        "    -H 'Content-Type: application/json' -H 'Prefer: wait=10' \\",
        """    -d '{"task": "lint.sql", "params": {"sql": "SELECT a  from b"}}'""",
        "",
    ]
    print("\n".join(lines), flush=True)
