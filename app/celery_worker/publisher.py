"""The `Transport` port over the broker: one thread for event loops, none for worker children."""

import asyncio
import contextlib
import os
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from app.celery_worker import inproc
from app.celery_worker.connections import BrokerUnavailable
from app.celery_worker.publishing import Publisher
from app.common.logging import get_logger
from app.config.settings import CelerySettings, Settings
from app.tasks.transport import QueueLevel, Transport, Wakeup

_log = get_logger(__name__)

_HEARTBEAT_SECONDS: Final = 20
_IDLE_SECONDS: Final = 5.0


class BlockingPublisher:
    """Publishes on the calling thread: for worker children, which have one task and no threads."""

    def __init__(self, settings: CelerySettings) -> None:
        self._publisher = Publisher(settings)

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        return self._publisher.send(wakeups)

    async def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        return self._publisher.send_dead_letter(wakeup, error)

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        return self._publisher.backlog(queues)

    async def levels(self, queues: Sequence[str]) -> Mapping[str, QueueLevel]:
        return self._publisher.levels(queues)

    async def ping(self) -> None:
        self._publisher.ping()

    async def close(self) -> None:
        self._publisher.close()


@dataclass(slots=True, eq=False)
class _Job:
    """One call on its way to the thread: wake-ups to send with others, or work of its own."""

    loop: asyncio.AbstractEventLoop
    answer: asyncio.Future[Any]
    wakeups: tuple[Wakeup, ...] = ()
    work: Callable[[Publisher], Any] | None = None
    abandoned: bool = False

    def reply(self, value: Any) -> None:
        self._settle(self.answer.set_result, value)

    def fail(self, error: Exception) -> None:
        self._settle(self.answer.set_exception, error)

    def _settle(self, settle: Callable[[Any], None], value: Any) -> None:
        def on_loop() -> None:
            if not self.answer.done():
                settle(value)

        try:
            self.loop.call_soon_threadsafe(on_loop)
        except RuntimeError:
            # The loop is closed; nobody waits any more.
            self.abandoned = True


class ThreadPublisher:
    """Publishes on one daemon thread of the process: the event loop never waits for a socket.

    Calls that arrive while a batch is under way go out together as the next batch.
    """

    def __init__(self, settings: CelerySettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pid = 0

    async def send(self, wakeups: Sequence[Wakeup]) -> frozenset[str]:
        if not wakeups:
            return frozenset()
        try:
            sent: frozenset[str] = await self._call(wakeups=tuple(wakeups))
        except TimeoutError:
            return frozenset()
        return sent

    async def send_dead_letter(self, wakeup: Wakeup, error: Mapping[str, str]) -> bool:
        try:
            return bool(
                await self._call(lambda publisher: publisher.send_dead_letter(wakeup, error))
            )
        except TimeoutError:
            return False

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        try:
            counts: Mapping[str, int] = await self._call(
                lambda publisher: publisher.backlog(queues)
            )
        except TimeoutError:
            return {}
        return counts

    async def levels(self, queues: Sequence[str]) -> Mapping[str, QueueLevel]:
        try:
            levels: Mapping[str, QueueLevel] = await self._call(
                lambda publisher: publisher.levels(queues)
            )
        except TimeoutError:
            return {}
        return levels

    async def ping(self) -> None:
        try:
            await self._call(lambda publisher: publisher.ping())
        except TimeoutError as error:
            raise BrokerUnavailable from error

    async def close(self) -> None:
        thread = self._thread
        if thread is not None and self._pid == os.getpid():
            self._jobs.put(None)
            await asyncio.to_thread(thread.join, self._settings.publish_timeout_seconds)

    async def _call(
        self, work: Callable[[Publisher], Any] | None = None, *, wakeups: tuple[Wakeup, ...] = ()
    ) -> Any:
        loop = asyncio.get_running_loop()
        job = _Job(loop, loop.create_future(), wakeups, work)
        self._start_thread()
        self._jobs.put(job)
        try:
            return await asyncio.wait_for(job.answer, self._settings.publish_timeout_seconds)
        finally:
            # A job whose caller has gone is not started any more; one that is under way goes on.
            job.abandoned = True

    def _start_thread(self) -> None:
        with self._lock:
            # A fork takes the object along and leaves the thread behind.
            if self._pid != os.getpid():
                self._jobs = queue.SimpleQueue()
                self._pid = os.getpid()
                self._thread = None
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="taskyard-publisher", daemon=True
                )
                self._thread.start()

    def _run(self) -> None:
        publisher = Publisher(self._settings, heartbeat_seconds=_HEARTBEAT_SECONDS)
        while True:
            jobs = self._next_jobs()
            if not jobs:
                publisher.idle()
            _serve(publisher, [job for job in jobs if job is not None and not job.abandoned])
            if None in jobs:
                publisher.close()
                return

    def _next_jobs(self) -> list[_Job | None]:
        """Return every job that waits; empty when none came for a while."""
        jobs: list[_Job | None] = []
        with contextlib.suppress(queue.Empty):
            jobs.append(self._jobs.get(timeout=_IDLE_SECONDS))
            while True:
                jobs.append(self._jobs.get_nowait())
        return jobs


def _serve(publisher: Publisher, jobs: Sequence[_Job]) -> None:
    """Send all wake-ups in one batch, then do the other jobs; each gets its own answer."""
    sends = [job for job in jobs if job.work is None]
    try:
        sent = (
            publisher.send([wakeup for job in sends for wakeup in job.wakeups])
            if sends
            else frozenset()
        )
    except Exception as error:  # noqa: BLE001 - it belongs to the callers
        _log.exception("publisher.failed")
        for job in sends:
            job.fail(error)
    else:
        for job in sends:
            job.reply(sent.intersection(wakeup.run_id for wakeup in job.wakeups))
    for job in jobs:
        if job.work is not None:
            try:
                job.reply(job.work(publisher))
            except Exception as error:  # noqa: BLE001 - it belongs to the caller
                job.fail(error)


def open_transport(settings: Settings) -> Transport:
    """Return the publisher of an asyncio process; it connects on first use.

    Raises InprocOutsideOneProcess when the broker is `inproc://` and this process runs no worker.
    """
    url = settings.celery.broker_url.get_secret_value()
    inproc.check_allowed(url)
    # Publishing inside the process waits for nothing, so it needs no thread.
    return (
        BlockingPublisher(settings.celery)
        if inproc.is_inproc(url)
        else ThreadPublisher(settings.celery)
    )
