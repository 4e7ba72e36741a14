"""Trace and request ids: W3C Trace Context (level 1) in, kept in context variables, passed on."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import structlog

from app.common.randomness import random_bytes

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_current: ContextVar["TraceContext | None"] = ContextVar("taskyard_trace", default=None)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """One span of a trace: 32 hex digits of trace id, 16 of span id."""

    trace_id: str
    span_id: str

    @property
    def traceparent(self) -> str:
        """The header value that hands this span on."""
        return f"00-{self.trace_id}-{self.span_id}-01"

    def child(self) -> "TraceContext":
        """Return a new span of the same trace."""
        return TraceContext(self.trace_id, random_bytes(8).hex())


def new_trace() -> TraceContext:
    """Return the first span of a new trace."""
    return TraceContext(random_bytes(16).hex(), random_bytes(8).hex())


def parse_traceparent(header: str | None) -> TraceContext | None:
    """Return the caller's span, or None when the header is absent or not valid."""
    if header is None or not (match := _TRACEPARENT.fullmatch(header)):
        return None
    return TraceContext(match[1], match[2])


def current_trace() -> TraceContext | None:
    """Return the span that the present task or request runs in."""
    return _current.get()


def current_trace_id() -> str | None:
    """Return the trace id that the present task or request runs in."""
    trace = _current.get()
    return trace.trace_id if trace else None


@contextmanager
def bind_trace(trace: TraceContext, **fields: object) -> Iterator[None]:
    """Run a block inside a span; its log lines carry the trace id and the fields."""
    token = _current.set(trace)
    bound = structlog.contextvars.bind_contextvars(trace_id=trace.trace_id, **fields)
    try:
        yield
    finally:
        structlog.contextvars.reset_contextvars(**bound)
        _current.reset(token)
