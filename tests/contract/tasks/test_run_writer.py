"""Runs that are submitted at the same time: written together, answered each by itself."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from typing import Any, Self

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from app import register_task
from app.common.ids import new_id
from app.common.tracing import bind_trace, current_trace, new_trace
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.errors import DatabaseUnavailable, PoolExhausted
from app.tasks.errors import RunAlreadyExists
from app.tasks.joint_insertion import COLUMNS, Inserted
from app.tasks.outbox import Outbox
from app.tasks.requests import NewRun, RunOptions, RunRequest
from app.tasks.run_writer import RunWriter
from app.testing import MemoryTransport
from tests.contract.db.making import options
from tests.harness import Installation

Install = Callable[..., Installation]
# No id: neither the joint statement nor the single one can write it.
UNWRITABLE = {"parent_id": "nobody"}


@register_task("test.echo", max_attempts=4, version="7")
async def echo(text: str = "", number: float = 0.5) -> str:
    """Return the text."""
    return text


def made(yard: Installation, columns: dict[str, Any] | None = None, **asked: Any) -> NewRun:
    request = RunRequest(task="test.echo", **asked)
    run = yard.services.new_run(request, created_by="ada", tenant=None, trace_id="a" * 32)
    run.row.update(columns or {})
    return run


def writer_of(yard: Installation, **more: Any) -> RunWriter:
    return RunWriter(yard.services.databases, yard.services.outbox, **more)


async def drained(writer: RunWriter, yard: Installation) -> None:
    await writer.close()
    await yard.services.outbox.close()


def ids_of_rows(yard: Installation) -> list[str]:
    return sorted(str(row.id) for row in yard.sql("SELECT id FROM task_runs"))


def ids_of_events(yard: Installation) -> list[str]:
    return sorted(str(row.run_id) for row in yard.sql("SELECT run_id FROM task_run_events"))


def ids_of_messages(yard: Installation) -> list[str]:
    return sorted(wakeup.run_id for wakeup in yard.transport.sent)


class Busy:
    """Every connection of the pool in use, until `free`."""

    def __init__(self, yard: Installation) -> None:
        self._yard = yard
        self._taken = AsyncExitStack()

    async def __aenter__(self) -> Self:
        pool = self._yard.services.databases.options(APPLICATION_BIND)
        engine = self._yard.services.databases.get_engine(APPLICATION_BIND)
        for _ in range(pool.pool_size + pool.max_overflow):
            await self._taken.enter_async_context(engine.connect())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.free()

    async def free(self) -> None:
        await self._taken.aclose()


async def start(work: Coroutine[Any, Any, Inserted]) -> "asyncio.Task[Inserted]":
    """Return the task once it stands where it waits."""
    task = asyncio.ensure_future(work)
    for _ in range(5):
        await asyncio.sleep(0)
    return task


@contextmanager
def counting_connections(yard: Installation) -> Iterator[list[object]]:
    taken: list[object] = []
    pool = yard.services.databases.get_engine(APPLICATION_BIND).sync_engine.pool
    event.listen(pool, "checkout", lambda *call: taken.append(call[0]))
    yield taken


def test_what_is_written_together_is_what_is_written_alone(install: Install) -> None:
    yard = install(echo)
    asked: dict[str, Any] = {
        "params": {"text": "naïve \U0001f600 \"'\\ {}[]\n", "number": 1.0000000000000002},
        "options": RunOptions(priority=9, queue="slow", timeout_seconds=7.5),
        "labels": {"a/b": "ü", "c": ""},
        "batch_id": new_id(),
        "replay_of": new_id(),
    }
    alone, joint = made(yard, **asked), made(yard, **asked)
    assert set(joint.row) == set(COLUMNS)

    async def write() -> None:
        from app.tasks.insertion import insert_run

        async with yard.services.databases.begin(APPLICATION_BIND) as connection:
            await insert_run(connection, alone, actor="ada")
        writer = writer_of(yard)
        await writer.write(joint)
        await drained(writer, yard)

    yard.run(write())
    first, second = (yard.row(run.id)._asdict() for run in (alone, joint))
    assert second["published_at"] is not None
    for row in (first, second):
        for own in ("id", "created_at", "updated_at", "published_at"):
            del row[own]
    assert second == first
    told = [
        {**row._asdict(), "id": 0, "run_id": "", "at": ""}
        for row in yard.sql("SELECT * FROM task_run_events ORDER BY id")
    ]
    assert told[0] == told[1]
    assert len(told) == 2


@pytest.mark.parametrize("seconds", [0.25, 3600.0, 86_400.125])
def test_a_due_time_counts_on_the_clock_of_the_database(install: Install, seconds: float) -> None:
    yard = install(echo)
    run = made(yard, options=RunOptions(delay_seconds=seconds))

    async def write() -> Inserted:
        writer = writer_of(yard)
        written = await writer.write(run)
        await drained(writer, yard)
        return written

    written = yard.run(write())
    row = yard.row(run.id)
    assert row.scheduled_for == written.scheduled_for
    assert (row.scheduled_for - row.created_at).total_seconds() == pytest.approx(seconds, abs=1e-3)
    (wakeup,) = yard.transport.sent
    assert wakeup.delay_seconds == pytest.approx(seconds, abs=1e-3)


def test_those_that_come_together_share_commits(install: Install) -> None:
    yard = install(echo)
    runs = [made(yard) for _ in range(250)]

    async def write() -> int:
        writer = writer_of(yard)
        with counting_connections(yard) as taken:
            written = await asyncio.gather(*(writer.write(run) for run in runs))
            commits = len(taken)
        assert len(written) == 250
        await drained(writer, yard)
        return commits

    assert yard.run(write()) <= 5
    ids = sorted(run.id for run in runs)
    assert ids_of_rows(yard) == ids_of_events(yard) == ids_of_messages(yard) == ids


def test_large_ones_do_not_make_one_huge_statement(install: Install) -> None:
    yard = install(echo)
    runs = [made(yard, params={"text": "x" * 200_000}) for _ in range(12)]

    async def write() -> int:
        writer = writer_of(yard)
        with counting_connections(yard) as taken:
            await asyncio.gather(*(writer.write(run) for run in runs))
            return len(taken)

    assert yard.run(write()) >= 4
    assert len(ids_of_rows(yard)) == 12


def test_a_run_that_cannot_be_written_fails_alone(install: Install) -> None:
    yard = install(echo)
    good = [made(yard) for _ in range(4)]
    bad = made(yard, UNWRITABLE)

    async def write() -> list[Any]:
        writer = writer_of(yard)
        asked = [*good[:2], bad, *good[2:]]
        answers = await asyncio.gather(
            *(writer.write(run) for run in asked), return_exceptions=True
        )
        await drained(writer, yard)
        return answers

    answers = yard.run(write())
    assert [isinstance(answer, Inserted) for answer in answers] == [True, True, False, True, True]
    assert not isinstance(answers[2], DatabaseUnavailable | RunAlreadyExists)
    ids = sorted(run.id for run in good)
    assert ids_of_rows(yard) == ids_of_events(yard) == ids_of_messages(yard) == ids


def test_an_id_is_used_once(install: Install) -> None:
    yard = install(echo)
    first = made(yard)
    same = replace(made(yard), id=first.id)
    same.row["id"] = first.id
    other = made(yard)

    async def write() -> list[Any]:
        writer = writer_of(yard)
        answers = [
            await asyncio.gather(*(writer.write(run) for run in runs), return_exceptions=True)
            for runs in ([first, same, other], [same])
        ]
        await drained(writer, yard)
        return [type(answer) for some in answers for answer in some]

    assert yard.run(write()) == [Inserted, RunAlreadyExists, Inserted, RunAlreadyExists]
    ids = sorted([first.id, other.id])
    assert ids_of_rows(yard) == ids_of_events(yard) == ids_of_messages(yard) == ids


def test_a_caller_that_goes_takes_along_what_is_not_being_written(install: Install) -> None:
    yard = install(echo)
    stays, written, waits = made(yard), made(yard), made(yard)

    async def go() -> None:
        writer = writer_of(yard)
        async with Busy(yard) as busy:
            staying = await start(writer.write(stays))
            # A statement has it; the one behind it finds every statement under way.
            going = [await start(writer.write(run)) for run in (written, waits)]
            for task in going:
                task.cancel()
            await busy.free()
            assert isinstance(await staying, Inserted)
        await drained(writer, yard)
        assert all(task.cancelled() for task in going)

    yard.run(go())
    ids = sorted([stays.id, written.id])
    assert ids_of_rows(yard) == ids_of_events(yard) == ids_of_messages(yard) == ids


def test_closing_finishes_what_waits(install: Install) -> None:
    yard = install(echo)
    runs = [made(yard) for _ in range(120)]

    async def close() -> list[Any]:
        writer = writer_of(yard)
        tasks = [await start(writer.write(run)) for run in runs]
        await drained(writer, yard)
        return [type(task.result()) for task in tasks]

    assert yard.run(close()) == [Inserted] * 120
    assert ids_of_rows(yard) == ids_of_messages(yard) == sorted(run.id for run in runs)


def test_who_comes_again_at_once_is_written(install: Install) -> None:
    yard = install(echo)

    async def come() -> None:
        # It comes back before anybody has seen that the only statement's task has ended.
        writer = writer_of(yard, statements=1)
        for _ in range(3):
            await writer.write(made(yard))
        await drained(writer, yard)

    yard.run(come())
    assert len(ids_of_rows(yard)) == 3


def test_a_full_queue_refuses(install: Install) -> None:
    yard = install(echo)
    runs = [made(yard) for _ in range(6)]

    async def overload() -> list[Any]:
        writer = writer_of(yard, most_waiting=2)
        async with Busy(yard) as busy:
            tasks = [await start(writer.write(run)) for run in runs]
            refused = [task for task in tasks if task.done()]
            await busy.free()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        await drained(writer, yard)
        assert [tasks.index(task) for task in refused] == [4, 5]
        return [type(answer) for answer in answers]

    assert yard.run(overload()) == [Inserted] * 4 + [PoolExhausted] * 2
    assert ids_of_rows(yard) == sorted(run.id for run in runs[:4])


def test_who_has_waited_too_long_is_refused_and_not_written(install: Install) -> None:
    yard = install(echo)
    runs = [made(yard) for _ in range(4)]

    async def wait() -> list[Any]:
        writer = writer_of(yard, patience_seconds=0.05)
        async with Busy(yard) as busy:
            tasks = [await start(writer.write(run)) for run in runs]
            await asyncio.wait(tasks[2:])
            assert not tasks[0].done()
            await busy.free()
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        again = await writer.write(runs[3])
        await drained(writer, yard)
        return [type(answer) for answer in [*answers, again]]

    assert yard.run(wait()) == [Inserted] * 2 + [PoolExhausted] * 2 + [Inserted]
    assert ids_of_rows(yard) == sorted(runs[index].id for index in (0, 1, 3))


def test_a_database_that_is_away_is_told_to_everybody(install: Install) -> None:
    yard = install(echo)

    async def write() -> list[Any]:
        away = Databases({APPLICATION_BIND: options("postgresql+asyncpg://127.0.0.1:1/nothing")})
        outbox = Outbox(away, yard.transport)
        writer = RunWriter(away, outbox)
        answers = await asyncio.gather(
            *(writer.write(made(yard)) for _ in range(5)), return_exceptions=True
        )
        await writer.close()
        await away.dispose()
        return [type(answer) for answer in answers]

    assert yard.run(write()) == [DatabaseUnavailable] * 5
    assert yard.transport.sent == []


class ListeningTransport(MemoryTransport):
    """Notes the trace in whose name it is called."""

    traces: list[object]

    async def send(self, wakeups: Any) -> frozenset[str]:
        self.traces = [*getattr(self, "traces", []), current_trace()]
        return await super().send(wakeups)


def test_the_request_that_starts_a_writer_does_not_lend_it_its_trace(install: Install) -> None:
    yard = install(echo)
    transport = ListeningTransport()

    async def write() -> None:
        outbox = Outbox(yard.services.databases, transport)
        writer = RunWriter(yard.services.databases, outbox)
        with bind_trace(new_trace()):
            await writer.write(made(yard))
        await outbox.close()

    yard.run(write())
    assert transport.traces == [None]


CALLS = st.lists(
    st.tuples(st.sampled_from(["good", "unwritable", "same id"]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=40,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(calls=CALLS)
def test_any_mixture_is_answered_each_by_itself(
    install: Install, calls: list[tuple[str, bool, bool]]
) -> None:
    """Good, unwritable and doubled runs; some callers go away, some let the others run first."""
    yard = install(echo)
    yard.sql("DELETE FROM task_runs")
    twin = made(yard)

    def run_of(kind: str) -> NewRun:
        if kind == "same id":
            doubled = replace(made(yard), id=twin.id)
            doubled.row["id"] = twin.id
            return doubled
        return made(yard, UNWRITABLE if kind == "unwritable" else None)

    async def write() -> list[tuple[str, NewRun, bool, Any]]:
        writer = writer_of(yard)
        tasks = []
        for kind, goes, pauses in calls:
            run = run_of(kind)
            task = asyncio.ensure_future(writer.write(run))
            tasks.append((kind, run, goes, task))
            if pauses:
                await asyncio.sleep(0)
            if goes:
                task.cancel()
        answers = await asyncio.gather(*(task for *_, task in tasks), return_exceptions=True)
        await drained(writer, yard)
        return [(*one[:3], answer) for one, answer in zip(tasks, answers, strict=True)]

    told = yard.run(write())
    rows = ids_of_rows(yard)
    assert rows == ids_of_events(yard)
    assert set(rows) <= set(ids_of_messages(yard))
    for kind, run, goes, answer in told:
        if goes:
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert fits(kind, answer)
            assert (run.id in rows) == (kind != "unwritable")
    assert sum(one[0] == "same id" and isinstance(one[3], Inserted) for one in told) <= 1


def fits(kind: str, answer: object) -> bool:
    """Return whether this is an answer that such a run can get."""
    if kind == "good":
        return isinstance(answer, Inserted)
    if kind == "same id":
        return isinstance(answer, Inserted | RunAlreadyExists)
    return isinstance(answer, Exception) and not isinstance(answer, RunAlreadyExists)
