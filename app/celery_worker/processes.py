"""The two processes of a real deployment beside the API: `taskyard worker` and `taskyard beat`."""

import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from app.celery_worker import metrics
from app.celery_worker.beat import DatabaseScheduler
from app.celery_worker.celery_app import create_app
from app.celery_worker.supervisor import Supervisor
from app.common.logging import configure_logging
from app.config.settings import Settings


def run_worker(
    settings: Settings,
    *,
    queues: Sequence[str] = (),
    concurrency: int | None = None,
    is_fast: bool = False,
) -> NoReturn:
    """Run a worker for the classes of queues (all by default) until a signal ends it.

    Ends the process with Celery's exit code. Raises ConfigurationError before anything starts.
    """
    configure_logging(settings.logging.level, settings.logging.format)
    app = create_app(settings, is_supervised=is_fast)
    if is_fast:
        metrics.serve(settings.celery.metrics_port, settings.celery.metrics_host)
        processes = concurrency or settings.celery.concurrency
        sys.exit(Supervisor(app, settings, processes=processes, queues=queues).run())
    if concurrency is not None:
        concurrency += settings.celery.reserved_processes
    worker = app.Worker(
        # Two workers of one name on one machine would take each other's control messages.
        hostname=f"worker-{os.getpid()}@{socket.gethostname()}",
        loglevel=settings.logging.level,
        concurrency=concurrency,
        queues=",".join(queues) or None,
        quiet=True,
    )
    metrics.serve(settings.celery.metrics_port, settings.celery.metrics_host)
    worker.start()
    sys.exit(worker.exitcode)


def run_beat(settings: Settings) -> None:
    """Run a beat until a signal ends it. Raises ConfigurationError before anything starts."""
    configure_logging(settings.logging.level, settings.logging.format)
    app = create_app(settings)
    metrics.serve_own(settings.celery.beat_metrics_port, settings.celery.metrics_host)
    # The class, not its name: a signal in the middle of a late import would end it with a failure.
    scheduler: Any = DatabaseScheduler
    app.Beat(loglevel=settings.logging.level, quiet=True, scheduler=scheduler).run()
