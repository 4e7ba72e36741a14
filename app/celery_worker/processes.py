"""The worker and the beat as processes of their own, started from our command line."""

from collections.abc import Sequence

from celery import Celery

from app.celery_worker.celery_app import create_celery
from app.config.settings import Settings
from app.tasks.services import load_code


def run_worker(
    settings: Settings, *, queues: Sequence[str] = (), concurrency: int | None = None
) -> None:
    """Run a prefork worker until a signal ends it; `queues` are classes, none means all.

    The same as `celery -A app.celery_worker.celery_app worker`.
    """
    arguments = [
        "worker",
        f"--loglevel={settings.logging.level}",
        "--without-gossip",
        "--without-mingle",
    ]
    if queues:
        arguments.append(f"--queues={','.join(queues)}")
    if concurrency is not None:
        arguments.append(f"--concurrency={concurrency}")
    _app(settings).worker_main(arguments)


def run_beat(settings: Settings) -> None:
    """Run a beat until a signal ends it; any number may run side by side."""
    app = _app(settings)
    app.Beat(loglevel=settings.logging.level, schedule=None).run()


def _app(settings: Settings) -> Celery:
    _, registry = load_code(settings)
    return create_celery(settings, registry.names(), queues=registry.queues())
