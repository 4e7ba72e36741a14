import asyncio

import pytest
import structlog

from app.common.tracing import (
    TraceContext,
    bind_trace,
    current_trace,
    current_trace_id,
    new_trace,
    parse_traceparent,
)

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def test_the_example_of_the_standard() -> None:
    assert parse_traceparent(f"00-{TRACE}-{SPAN}-01") == TraceContext(TRACE, SPAN)
    assert parse_traceparent(f"cc-{TRACE}-{SPAN}-00") == TraceContext(TRACE, SPAN)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        "00-" + "${jndi:ldap://x}" * 1000,
    ],
)
def test_anything_else_starts_a_trace_of_our_own(header: str | None) -> None:
    assert parse_traceparent(header) is None


def test_a_new_trace_is_handed_on_and_read_again() -> None:
    trace = new_trace()
    assert parse_traceparent(trace.traceparent) == trace
    assert new_trace().trace_id != trace.trace_id


def test_a_child_is_another_span_of_the_same_trace() -> None:
    trace = new_trace()
    child = trace.child()
    assert child.trace_id == trace.trace_id
    assert child.span_id != trace.span_id
    assert parse_traceparent(child.traceparent) == child


def fail_inside(trace: TraceContext) -> None:
    with bind_trace(trace, task="b", attempt=2):
        assert current_trace_id() == trace.trace_id
        fields = structlog.contextvars.get_contextvars()
        assert fields == {"trace_id": trace.trace_id, "task": "b", "attempt": 2}
        raise KeyError


def test_a_block_is_bound_and_released_also_when_it_fails() -> None:
    outer, inner = new_trace(), new_trace()
    assert current_trace() is None
    with bind_trace(outer, task="a"):
        with pytest.raises(KeyError):
            fail_inside(inner)
        assert current_trace() == outer
        fields = structlog.contextvars.get_contextvars()
        assert fields == {"trace_id": outer.trace_id, "task": "a"}
    assert current_trace_id() is None
    assert structlog.contextvars.get_contextvars() == {}


async def test_tasks_side_by_side_keep_their_own_trace() -> None:
    async def look(trace: TraceContext) -> str | None:
        with bind_trace(trace):
            await asyncio.sleep(0)
            return current_trace_id()

    traces = [new_trace() for _ in range(3)]
    seen = await asyncio.gather(*map(look, traces))
    assert seen == [trace.trace_id for trace in traces]
