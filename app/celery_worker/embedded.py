"""Worker and beat inside the API's process: the same app, topology and tasks over `inproc://`."""

import threading
import time
from collections.abc import Callable
from typing import Final

from celery import Celery
from celery.worker import WorkController

from app.celery_worker import inproc
from app.celery_worker.celery_app import create_app
from app.celery_worker.housekeeping import Housekeeper
from app.celery_worker.runtime import Runtimes
from app.celery_worker.site import ServicesFactory, site_of
from app.celery_worker.worker import current_runtimes
from app.common.logging import get_logger
from app.config.settings import Settings

_log = get_logger(__name__)

_READY_SECONDS: Final = 10.0
# What still runs at the stop has this long to end by itself before it is cancelled.
_GRACE_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 10.0


class EmbeddedWorker:
    """A worker with a pool of threads and a housekeeping thread, for `taskyard dev` and tests.

    `inproc://` becomes usable in this process when the object is made. Time limits of `def`
    tasks and the isolation of a crash need the real form: a thread cannot be killed.
    """

    def __init__(self, settings: Settings, *, app: Celery | None = None) -> None:
        inproc.register()
        self._settings = settings
        self._app = app
        self._worker: WorkController | None = None
        self._threads: list[threading.Thread] = []
        self._ended = threading.Event()
        self.ready = threading.Event()

    def start(self, services_factory: ServicesFactory | None = None) -> None:
        """Start both threads and return when the worker consumes; TimeoutError when it does not.

        `services_factory` makes the services of each pool thread around its own publisher.
        """
        self._ended.clear()
        app = self._app or create_app(self._settings, services_factory)
        # `Task.retry` and plain `apply_async` in a pool thread use the default app; without this
        # they would go to a RabbitMQ on this machine.
        app.set_default()
        self._worker = WorkController(
            app=app,
            pool="threads",
            concurrency=self._settings.celery.concurrency,
            ready_callback=lambda _consumer: self.ready.set(),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        self._app = app
        self._spawn("taskyard-worker", self._worker.start)
        self._spawn("taskyard-beat", self._keep_house)
        if not self.ready.wait(_READY_SECONDS):
            self.stop()
            raise TimeoutError("The embedded worker did not start.")

    def stop(self) -> None:
        """Stop taking messages, let running attempts end or cancel them, close everything."""
        self._ended.set()
        worker, self._worker = self._worker, None
        if worker is not None and self._app is not None:
            stopping = threading.Thread(target=worker.stop, name="taskyard-stop", daemon=True)
            stopping.start()
            self._wake_until_done(stopping, current_runtimes(self._app))
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        self._threads.clear()
        self.ready.clear()

    def _wake_until_done(self, stopping: threading.Thread, runtimes: Runtimes) -> None:
        """Wake the consumer so that it sees the stop, and cancel what outlives its grace."""
        deadline = time.monotonic() + _GRACE_SECONDS
        while stopping.is_alive():
            inproc.broker().interrupt()
            stopping.join(0.05)
            if time.monotonic() > deadline:
                runtimes.cancel()
                deadline = time.monotonic() + _GRACE_SECONDS

    def _spawn(self, name: str, target: Callable[[], object]) -> None:
        thread = threading.Thread(target=target, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _keep_house(self) -> None:
        housekeeper = Housekeeper(site_of(self._app))
        pause = self._settings.celery.sweep_interval_seconds
        try:
            while not self._ended.wait(pause):
                pause = housekeeper.run()
        finally:
            housekeeper.close()
