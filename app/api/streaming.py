"""Server-sent events: how a run's stream is written, how many there may be, and when one ends."""

import asyncio
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Annotated, Any

from fastapi import Depends, Request
from sqlalchemy.engine import Row
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from app.api.authentication import authenticate
from app.api.errors import StreamsFull, TooManyStreams
from app.api.middleware.head import IS_HEAD
from app.api.run_views import event_view, log_view
from app.auth.principal import Principal
from app.common.clock import rfc3339
from app.common.errors import FieldError, Unauthorized, ValidationFailed
from app.common.strict_json import dump_bytes
from app.config.settings import StreamSettings
from app.db import Databases
from app.tasks.run_streams import RunStreams, Told

_RESUME = re.compile(r"([0-9]{1,18})(-end)?")
_RETRY_MS = 1000
_SEND_SECONDS = 30.0
_TOKEN_CHECK_SECONDS = 10.0
RESUME_PARAMETER = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The id of the last event that was seen; the stream goes on behind it.",
    "schema": {"type": "string", "pattern": "^([0-9]{1,18}(-end)?)?$"},
}


@dataclass(frozen=True, slots=True)
class Resume:
    """Where a client goes on: behind the number `after`; `at_end` when it has seen the end."""

    after: int = 0
    at_end: bool = False

    def check(self, run: Row[Any]) -> None:
        """Raise ValidationFailed for an id that no event of this run has had."""
        if self.after > run.last_seq:
            raise _bad_resume("No event of this run has had this id.")


async def read_resume(request: Request) -> Resume:
    """Return where the client goes on; ValidationFailed for an id that no stream gives."""
    values = request.headers.getlist("last-event-id")
    if len(values) > 1:
        raise _bad_resume("There must be only one Last-Event-ID header.")
    if not values or not values[0]:
        return Resume()
    match = _RESUME.fullmatch(values[0])
    if match is None:
        raise _bad_resume("This is not the id of an event of a stream.")
    return Resume(int(match[1]), at_end=match[2] is not None)


def _bad_resume(message: str) -> ValidationFailed:
    fault = FieldError(("header", "Last-Event-ID"), message, "invalid_event_id")
    return ValidationFailed(
        "The stream cannot go on behind this event.",
        errors=[fault],
        hint="Leave the header out to begin at the first event.",
    )


ResumeAt = Annotated[Resume, Depends(read_resume)]


class StreamDesk:
    """The open streams of this process: counted, bounded, and ended at its stop."""

    def __init__(self, databases: Databases, settings: StreamSettings) -> None:
        self.settings = settings
        self.streams = RunStreams(databases)
        self._by_caller: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """Return how many streams are open."""
        return self._by_caller.total()

    def take_seat(self, caller: Principal) -> Callable[[], None]:
        """Return what gives the seat back; raises StreamsFull or TooManyStreams."""
        later = self.settings.retry_after_seconds
        if self.taken >= self.settings.max_open:
            raise StreamsFull(
                f"This process serves {self.settings.max_open} streams already.",
                headers={"Retry-After": str(later)},
            )
        most = self.settings.max_open_per_caller
        if self._by_caller[caller.id] >= most:
            raise TooManyStreams(limit=most, retry_after_seconds=later)
        self._by_caller[caller.id] += 1
        return lambda: self._leave(caller.id)

    def _leave(self, caller_id: str) -> None:
        self._by_caller[caller_id] -= 1
        self._by_caller += Counter()  # Forgets callers without a stream.


def desk_of(request: Request) -> StreamDesk:
    """Return the streams of the application that serves this request."""
    desk = request.app.state.streams
    assert isinstance(desk, StreamDesk)  # noqa: S101 - `create_app` has put it there
    return desk


class EventStream(StreamingResponse):
    """An answer of server-sent events; a client that takes nothing is let go of."""

    media_type = "text/event-stream"

    def __init__(self, content: AsyncGenerator[bytes], leave: Callable[[], None]) -> None:
        super().__init__(content, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._content = content
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and leave the seat however that ends."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._content.aclose()
            self._leave()

    async def stream_response(self, send: Send) -> None:
        """Send the events, each within a bounded time."""

        async def send_in_time(message: Message) -> None:
            try:
                async with asyncio.timeout(_SEND_SECONDS):
                    await send(message)
            except TimeoutError:
                raise ClientDisconnect from None  # It has not gone, and it takes nothing either.

        await super().stream_response(send_in_time)


async def events_of(
    request: Request, desk: StreamDesk, run_id: str, resume: Resume
) -> AsyncGenerator[bytes]:
    """Yield the text of a run's stream until the run, the token or the process ends."""
    follow = desk.streams.follow(run_id, resume.after, desk.settings.heartbeat_seconds)
    async with aclosing(follow):
        texts = ([_event(one) for one in told] async for told in follow)
        async for text in stream_of(request, desk, f"run {run_id}", texts):
            yield text


async def stream_of(
    request: Request, desk: StreamDesk, name: str, texts: AsyncGenerator[list[bytes]]
) -> AsyncGenerator[bytes]:
    """Yield a stream made of these events until they, the token or the process ends.

    The events come in lists, of which an empty one tells that nothing has happened for a while.
    """
    # A proxy that gathers the first bytes lets a comment go at once.
    yield f"retry: {_RETRY_MS}\n: the stream of {name}\n\n".encode()
    if request.scope.get(IS_HEAD):
        return
    token = _TokenWatch(request)
    async with aclosing(texts):
        async for told in texts:
            for one in told:
                yield one
            if not told:
                yield b": still here\n\n"
            if not await token.holds():
                yield b": the token has expired; resume with a new one\n\n"
                return
    if desk.streams.is_closed:
        yield b": the server stops; resume\n\n"


class _TokenWatch:
    """Looks at the caller's token again and again, at the database's word for it now and then."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._next = time.monotonic() + _TOKEN_CHECK_SECONDS

    async def holds(self) -> bool:
        if time.monotonic() < self._next:
            return True
        self._next = time.monotonic() + _TOKEN_CHECK_SECONDS
        try:
            await authenticate(self._request)
        except Unauthorized:
            return False
        return True


def _event(told: Told) -> bytes:
    event_id = f"{told.seq}-end" if told.kind == "end" else str(told.seq)
    return event(event_id, told.kind, _DATA[told.kind](told.row))


def event(event_id: str, kind: str, data: str) -> bytes:
    """Return one event; its data is one line of JSON."""
    return f"id: {event_id}\nevent: {kind}\ndata: {data}\n\n".encode()


def _progress_data(row: Row[Any]) -> str:
    return _text({"at": rfc3339(row.at), "attempt": row.attempt, **row.report})


def _end_data(run: Row[Any]) -> str:
    told = {
        "task_id": run.id,
        "status": run.status,
        "attempt": run.attempt,
        "error": run.error,
        "finished_at": rfc3339(run.finished_at),
    }
    return _text(told)


def _text(document: Mapping[str, Any]) -> str:
    return dump_bytes(document).decode()


_DATA: dict[str, Callable[[Row[Any]], str]] = {
    "status": lambda row: event_view(row).model_dump_json(by_alias=True),
    "log": lambda row: log_view(row).model_dump_json(),
    "progress": _progress_data,
    "end": _end_data,
}


@contextmanager
def closed_by_signals(close: Callable[[], None]) -> Iterator[None]:
    """Call `close` on the running loop at SIGTERM or SIGINT, before the server's own handler.

    A server waits for its connections and tells the application of its stop only then; a stream
    would be waited for until it is cut off.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}

    def handle(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(close)
        handler = before[signal.Signals(number)]
        if callable(handler):
            handler(number, frame)

    ours = [one for one, handler in before.items() if callable(handler)]
    for one in ours:
        signal.signal(one, handle)
    try:
        yield
    finally:
        for one in ours:
            signal.signal(one, before[one])
