"""One look at what there is to do, on every database."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event

from app import register_task
from app.config.settings import APPLICATION_BIND
from app.tasks.agenda import DUTY, Agenda
from app.tasks.leadership import hold
from app.tasks.sweeper import Sweeper
from tests.contract.tasks.test_run_life import age, claim
from tests.harness import Installation

Install = Callable[..., Installation]


@register_task("test.seen")
async def seen() -> None:
    """Be seen."""


def look(yard: Installation) -> Agenda:
    return yard.run(Sweeper(yard.services).look())


def with_lease(yard: Installation) -> Installation:
    yard.sql("DELETE FROM leases")
    return yard


def test_nothing_is_due_where_nothing_is(install: Install) -> None:
    yard = install(seen)
    found = look(yard)
    assert found == Agenda(now=found.now, term=1)
    yard.deliver(yard.submit("test.seen").task_id)
    found = look(with_lease(yard))
    assert found == Agenda(now=found.now, term=1)


def test_each_kind_of_work_is_found(install: Install) -> None:
    yard = install(seen)
    running = yard.submit("test.seen").task_id
    claim(yard, running)
    found = look(yard)
    assert found.lost_at is not None
    assert not found.is_due(found.lost_at)
    yard.lose_lease(running)
    found = look(with_lease(yard))
    assert found.is_due(found.lost_at)
    assert not (found.has_unpublished)
    assert not (found.has_overdue)
    assert not (found.has_held)

    expiring = yard.submit(
        "test.seen", options={"expires_at": datetime.now(UTC) + timedelta(minutes=1)}
    ).task_id
    found = look(with_lease(yard))
    assert found.expires_at is not None
    assert not found.is_due(found.expires_at)
    age(yard, expiring, "expires_at")
    found = look(with_lease(yard))
    assert found.is_due(found.expires_at)

    yard.transport.confirms = False
    yard.submit("test.seen")
    assert look(with_lease(yard)).has_unpublished
    yard.transport.confirms = True
    age(yard, expiring, "published_at")
    assert look(with_lease(yard)).has_overdue


def test_who_does_not_lead_sees_until_when_the_other_does(install: Install) -> None:
    yard = install(seen)
    assert yard.run(hold(yard.services.databases, DUTY, "another", 7.0)) == 1
    found = look(yard)
    assert found.term is None
    assert found.leads_until is not None
    assert 0 < (found.leads_until - found.now).total_seconds() <= 7.0


def test_overdue_runs_are_looked_for_now_and_then(install: Install) -> None:
    yard = install(seen)
    age(yard, yard.submit("test.seen").task_id, "published_at")
    now = [100.0]
    sweeper = Sweeper(yard.services, clock=lambda: now[0])
    pause = yard.services.settings.celery.overdue_after_seconds / 6
    for passed, is_found in ((0, True), (pause / 2, False), (pause / 2, True)):
        now[0] += passed
        assert yard.run(sweeper.look()).has_overdue == is_found


def test_an_idle_sweep_is_one_statement(install: Install) -> None:
    yard = install(seen)
    sweeper = Sweeper(yard.services)
    yard.run(sweeper.sweep())
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: object) -> None:
        sent.append(statement)

    async def engine() -> Any:
        return yard.services.databases.get_engine(APPLICATION_BIND).sync_engine

    watched = yard.run(engine())
    event.listen(watched, "before_cursor_execute", note)
    try:
        assert yard.run(sweeper.sweep())
    finally:
        event.remove(watched, "before_cursor_execute", note)
    # SQLite cannot write in a part of a question, so that its lease is a statement of its own.
    assert len(sent) == (2 if yard.is_sqlite else 1)
