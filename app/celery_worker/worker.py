"""The life of a worker process: opened after the fork, beaten in between, closed at the end."""

import contextlib
import os
from collections.abc import Sequence
from typing import Any

from celery import Celery, Task, bootsteps, signals
from celery.exceptions import Reject

from app.celery_worker.deaths import notice_deaths
from app.celery_worker.grace import Grace
from app.celery_worker.leases import LeaseKeeper
from app.celery_worker.plain_calls import HEADER, call_of
from app.celery_worker.preloading import preload
from app.celery_worker.runtime import Runtimes
from app.celery_worker.site import site_of
from app.celery_worker.slots import put_urgent_first
from app.common.logging import get_logger
from app.tasks.execution import Disposition
from app.tasks.plain_calls import PlainCall
from app.tasks.transport import Wakeup

_log = get_logger(__name__)

# The worker of this process. A child inherits it through the fork, with its name and site; a
# process has one worker (Celery keeps the state of its requests in module globals as well).
_runtimes: Runtimes | None = None
_keeper: LeaseKeeper | None = None
_grace: Grace | None = None


class RunTask(Task[Any, Any]):
    """The Celery side of a registered task: it runs the row of its id and ignores its arguments."""

    abstract = True
    acks_late = True
    reject_on_worker_lost = True
    # After the hard limit the message comes back as well: the next attempt may need it.
    acks_on_timeout = False
    Request = "app.celery_worker.requests:RunRequest"
    ignore_result = True
    store_errors_even_if_ignored = False
    typing = False

    def run(self, *_args: Any, **_kwargs: Any) -> None:
        wakeup = self._wakeup()
        disposition = current_runtimes(self.app).current().execute(wakeup, self._call(wakeup))
        if disposition is Disposition.UNKNOWN:
            raise Reject(f"no run has the id {wakeup.run_id}", requeue=False)
        if disposition is Disposition.LATER:
            raise Reject("neither the database nor the broker can be reached", requeue=True)

    def _call(self, wakeup: Wakeup) -> PlainCall | None:
        """Return what a plain Celery producer asks for, None for a wake-up of ours."""
        header = getattr(self.request, HEADER, None)
        if header is None:
            return None
        is_default = wakeup.queue == site_of(self.app).settings.celery.default_queue
        return call_of(
            header,
            run_id=wakeup.run_id,
            task=self.name,
            queue=None if is_default else wakeup.queue,
            priority=wakeup.priority,
        )

    def _wakeup(self) -> Wakeup:
        """Return the wake-up that this delivery stands for."""
        request = self.request
        info = request.delivery_info or {}
        queue, priority = site_of(self.app).topology.read_queue(str(info.get("routing_key") or ""))
        soft = (request.timelimit or (None, None))[1]
        return Wakeup(
            run_id=str(request.id),
            function=getattr(request, "function", None) or self.name,
            queue=queue,
            priority=priority,
            timeout_seconds=soft,
            traceparent=getattr(request, "traceparent", None),
        )


def run_group(wakeups: Sequence[Wakeup]) -> list[Disposition]:
    """Run the deliveries of a group, in a process of the pool (`app.celery_worker.groups`)."""
    if _runtimes is None:
        raise RuntimeError("a group runs in the process of a worker only")
    return _runtimes.current().execute_many(wakeups)


class WorkerLife(bootsteps.StartStopStep):
    """Names the worker before the fork, and keeps its leases while it lives."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        global _runtimes, _keeper  # noqa: PLW0603 - see above
        _runtimes = Runtimes(site_of(parent.app), parent.hostname)
        _keeper = LeaseKeeper(site_of(parent.app), parent, _runtimes)

    def create(self, w: Any) -> None:
        put_urgent_first(w, site_of(w.app).settings.celery.reserved_processes)

    def start(self, w: Any) -> None:
        # After the pool has its children, and before the main loop watches them.
        notice_deaths(w)
        if _keeper is not None:
            _keeper.start()

    def close(self, w: Any) -> None:
        """Begin the grace period; no more messages are taken from here on."""
        global _grace  # noqa: PLW0603 - see above
        _grace = Grace(site_of(w.app).settings.celery.shutdown_grace_seconds)
        _grace.start()

    def stop(self, w: Any) -> None:
        """Nothing yet: runs that finish during a warm shutdown still need their leases."""


def current_runtimes(app: Celery) -> Runtimes:
    """Return the runtimes of this process; a task that is called without a worker gets its own."""
    global _runtimes  # noqa: PLW0603 - see above
    if _runtimes is None or _runtimes.site is not site_of(app):
        _runtimes = Runtimes(site_of(app), f"direct@{os.uname().nodename}")
    return _runtimes


@signals.worker_init.connect(weak=False, dispatch_uid="taskyard.preload")
def _preload(sender: Any, **_: Any) -> None:
    preload(site_of(sender.app).settings)


@signals.worker_process_init.connect(weak=False, dispatch_uid="taskyard.open")
def _open_after_fork(**_: Any) -> None:
    # Opened before the first message, so that the first run does not pay for it. A failure here
    # is not the end: the first run tries again and its message comes back.
    if _runtimes is not None:
        with contextlib.suppress(Exception):
            _runtimes.current()


@signals.worker_process_shutdown.connect(weak=False, dispatch_uid="taskyard.close")
def _close_child(**_: Any) -> None:
    if _runtimes is not None:
        _runtimes.close()


@signals.worker_shutdown.connect(weak=False, dispatch_uid="taskyard.end")
def _end_worker(**_: Any) -> None:
    # The pool has ended. The runtimes of pool threads, and of a solo worker, are still open here.
    if _grace is not None:
        _grace.stop()
    if _keeper is not None:
        _keeper.stop()
    if _runtimes is not None:
        _runtimes.close()
