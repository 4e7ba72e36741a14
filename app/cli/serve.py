"""The processes: `api`, `worker` and `beat` of a deployment, and `dev`, which is all of
them in one.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

import typer

from app.cli.failures import usage_error

Profile = Literal["default", "fast"]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(dev)
    app.command()(api)
    app.command()(worker)
    app.command()(beat)


def dev(
    host: Annotated[
        str, typer.Option(help="Address to listen on; loopback unless --allow-remote.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes any free one.", min=0, max=65535)] = 8000,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything that is kept (data_dir).", show_default=".taskyard"
        ),
    ] = None,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the API's page.")
    ] = True,
    reload: Annotated[
        bool, typer.Option("--reload", help="Start again when Python code changes.")
    ] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Permit a host that is not loopback.")
    ] = False,
) -> None:
    """Run everything in one process on embedded parts: API, worker and beat, nothing to install.

    Example: taskyard dev --port 8080 --no-browser
    """
    if not allow_remote and not _is_loopback(host):
        raise usage_error(
            f"'{host}' is reachable from other machines, and this form is made for one developer.",
            hint="Keep --host 127.0.0.1, or add --allow-remote if you know who can reach it.",
        )
    from app.cli.development import run_dev, run_dev_with_reload

    if reload:
        run_dev_with_reload(host, port, data_dir)
    else:
        run_dev(host, port, data_dir, open_browser=browser)


def api(
    host: Annotated[str | None, typer.Option(help="Address to listen on (server.host).")] = None,
    port: Annotated[int | None, typer.Option(help="Port (server.port).", min=0, max=65535)] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (server.workers).", min=1)] = None,
) -> None:
    """Serve the HTTP API of a deployment; workers and beat run as processes of their own.

    Example: taskyard api --host 0.0.0.0 --workers 2
    """
    from app.config import load_settings
    from app.main import create_api, serve_api

    # The processes of the API read their settings themselves; an option stands above all of them.
    for key, value in (("HOST", host), ("PORT", port), ("WORKERS", workers)):
        if value is not None:
            os.environ[f"TASKYARD_SERVER__{key}"] = str(value)
    settings = load_settings()
    create_api(settings)  # What is wrong with the settings is told here, before any process starts.
    serve_api(settings)


def worker(
    queues: Annotated[
        str | None, typer.Option(help="Classes of queues, by comma; all by default.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Child processes (celery.concurrency).", min=1)
    ] = None,
    profile: Annotated[
        Profile,
        typer.Option(help="fast: each process takes its own messages and runs them itself."),
    ] = "default",
) -> None:
    """Run a worker that takes tasks from RabbitMQ.

    Example: taskyard worker --queues default,lint --concurrency 4
    """
    from app.celery_worker import metrics
    from app.config import load_settings

    settings = load_settings()
    metrics.prepare(settings.celery.metrics_port)
    from app.celery_worker.processes import run_worker

    names = [name.strip() for name in (queues or "").split(",") if name.strip()]
    run_worker(settings, queues=names, concurrency=concurrency, is_fast=profile == "fast")


def beat() -> None:
    """Run a beat: it fires schedules, sends again what was lost, keeps dead letters.

    Several may run.

    Example: taskyard beat
    """
    from app.celery_worker.processes import run_beat
    from app.config import load_settings

    run_beat(load_settings())


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
