"""Lists of runs: pages, filters, cursors; and cancelling by id."""

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app import Fatal, TaskContext, register_task
from app.common.ids import new_id
from app.tasks.errors import InvalidCursor, RunHasEnded, RunNotFound
from app.tasks.run_lists import (
    Page,
    RunFilters,
    RunLists,
    decode_place,
    encode_place,
)
from app.tasks.statuses import Status
from app.tasks.transitions import CLAIM, RETRY, apply
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


@register_task("test.plain")
async def plain() -> None:
    """Do nothing."""


@register_task("test.other_one", queue="slow")
async def other() -> None:
    """Do nothing elsewhere."""


@register_task("test.fails")
async def fails(text: str) -> None:
    """Fail with a text."""
    raise Fatal(text)


@register_task("test.parent")
async def parent(ctx: TaskContext) -> str:
    """Submit one child."""
    return ctx.submit("test.plain")


def page(yard: Installation, limit: int = 50, cursor: str | None = None, **filters: Any) -> Page:
    caller = filters.pop("caller", Somebody())
    return yard.run(yard.services.runs.list(RunFilters(**filters), limit, cursor, caller))


def ids(yard: Installation, **filters: Any) -> list[str]:
    return [row.id for row in page(yard, **filters).items]


def test_the_newest_come_first(install: Install) -> None:
    yard = install(plain)
    made = [yard.submit("test.plain").task_id for _ in range(5)]
    assert ids(yard) == made[::-1]
    assert page(yard).next_cursor is None


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8])
def test_pages_are_complete_and_without_doubles_while_rows_come(
    install: Install, limit: int
) -> None:
    yard = install(plain)
    made = [yard.submit("test.plain").task_id for _ in range(7)]
    seen: list[str] = []
    cursor = None
    while True:
        part = page(yard, limit, cursor)
        assert len(part.items) <= limit
        seen += [row.id for row in part.items]
        if (cursor := part.next_cursor) is None:
            break
        yard.submit("test.plain")
    assert seen == made[::-1]


def test_a_deleted_row_does_not_end_the_pages(install: Install) -> None:
    yard = install(plain)
    made = [yard.submit("test.plain").task_id for _ in range(4)]
    first = page(yard, 2)
    yard.sql("DELETE FROM task_runs WHERE id = :id", id=bound(yard, made[2]))
    assert [row.id for row in page(yard, 2, first.next_cursor).items] == [made[1], made[0]]


def bound(yard: Installation, run_id: str) -> Any:
    from tests.harness import _uuid

    return run_id if yard.is_sqlite else _uuid(run_id)


def test_every_filter_narrows_and_all_must_hold(install: Install) -> None:
    yard = install(plain, other, fails, parent)
    batch = new_id()
    a = yard.submit("test.plain", batch_id=batch).task_id
    b = yard.submit("test.other_one").task_id
    c = yard.submit("test.fails", {"text": "out of paper"}).task_id
    d = yard.submit("test.parent").task_id
    for run_id in (b, c, d):
        yard.deliver(run_id)
    child = yard.row(d).result
    row = yard.row(a)
    assert ids(yard, statuses=[Status.PENDING]) == [child, a]
    assert ids(yard, statuses=[Status.FAILED, Status.PENDING]) == [child, c, a]
    assert ids(yard, statuses=[Status.CANCELLED]) == []
    assert ids(yard, task="test.plain") == [child, a]
    assert ids(yard, queue="slow") == [b]
    assert ids(yard, batch_id=batch) == [a]
    assert ids(yard, parent_id=d) == [child]
    assert ids(yard, trace_id=row.trace_id) == [a]
    assert ids(yard, trace_id=yard.row(d).trace_id) == [child, d]
    assert ids(yard, statuses=[Status.PENDING], task="test.plain", parent_id=d) == [child]
    assert ids(yard, statuses=[Status.FAILED], task="test.plain") == []
    everything = ids(yard)
    assert ids(yard, created_after=row.created_at) == everything
    assert a not in ids(yard, created_after=row.created_at + timedelta(microseconds=1))
    assert ids(yard, created_before=row.created_at) == []
    late = row.created_at + timedelta(days=1)
    assert ids(yard, created_before=late) == everything
    assert ids(yard, created_after=late) == []


def test_filters_hold_over_pages(install: Install) -> None:
    yard = install(plain, other)
    wanted = []
    for _ in range(3):
        wanted.append(yard.submit("test.plain", labels={"a": "1"}).task_id)
        yard.submit("test.other_one")
    first = page(yard, 2, labels={"a": "1"})
    second = page(yard, 2, first.next_cursor, labels={"a": "1"})
    assert [row.id for row in (*first.items, *second.items)] == wanted[::-1]
    assert second.next_cursor is None


@pytest.mark.parametrize(
    "name", ["plain", "with.dots", "a/b-c", 'quo"ted', "a'b", "$", "a\\b", "ü", "[0]", "", "%"]
)
def test_a_label_is_found_by_its_whole_name(install: Install, name: str) -> None:
    yard = install(plain)
    wanted = yard.submit("test.plain", labels={name: "1", "other": "2"}).task_id
    yard.submit("test.plain", labels={name: "2"})
    yard.submit("test.plain", labels={f"{name}x": "1"})
    yard.submit("test.plain")
    assert ids(yard, labels={name: "1"}) == [wanted]
    assert ids(yard, labels={name: "1", "other": "2"}) == [wanted]
    assert ids(yard, labels={name: "1", "other": "3"}) == []


@pytest.mark.parametrize("value", ["1", "true", "null", "", 'quo"ted', "%", "a'b", "1.0"])
def test_a_label_has_a_text_as_its_value(install: Install, value: str) -> None:
    yard = install(plain)
    wanted = yard.submit("test.plain", labels={"a": value}).task_id
    yard.submit("test.plain", labels={"a": f"{value}0"})
    assert ids(yard, labels={"a": value}) == [wanted]


def test_q_searches_names_and_errors(install: Install) -> None:
    yard = install(plain, other, fails)
    name = yard.submit("test.other_one").task_id
    error = yard.submit("test.fails", {"text": 'say "100%_\\ done"'}).task_id
    yard.submit("test.plain")
    yard.deliver(error)
    assert ids(yard, q="OTHER") == [name]
    assert ids(yard, q="fatal") == [error]
    for part in ("100%", "%_", "_\\ d", 'say "1', "DONE"):
        assert ids(yard, q=part) == [error], part
    assert ids(yard, q="other_one") == [name]


@pytest.mark.parametrize(
    "q", ["otherxone", "%other%", "t%t", "o_her", "\\", "retryable", "message"]
)
def test_q_means_its_characters(install: Install, q: str) -> None:
    yard = install(other, fails)
    yard.submit("test.other_one")
    yard.deliver(yard.submit("test.fails", {"text": "nothing"}).task_id)
    assert ids(yard, q=q) == []


def test_lists_stay_within_a_tenant(install: Install) -> None:
    yard = install(plain)
    ours, theirs = Somebody(tenant="ours"), Somebody(tenant="theirs")
    mine = yard.submit("test.plain", caller=ours).task_id
    yard.submit("test.plain", caller=theirs)
    free = yard.submit("test.plain").task_id
    assert ids(yard, caller=ours) == [mine]
    assert ids(yard) == [free]


def test_a_cursor_is_read_back() -> None:
    place = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), new_id()
    assert decode_place(encode_place(*place)) == place


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


ID = "0198c0de-0000-7000-8000-00000000abcd"
MOMENT = "2026-01-02T03:04:05.678901Z"
GOOD = encode_place(datetime(2026, 1, 2, 3, 4, 5, 678901, UTC), ID)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "!",
        "ü",
        "\x00",
        GOOD[:-1],
        GOOD + "=",
        GOOD + "A",
        GOOD.swapcase(),
        encoded(f"2|{MOMENT}|nothing"),
        encoded(f"2|{MOMENT}"),
        encoded(f"1|{MOMENT}|{ID}"),
        encoded(f"2|{MOMENT}|{ID.upper()}"),
        encoded(f"2|{MOMENT}|{ID} "),
        encoded(f"2|2026-01-02T03:04:05.678901|{ID}"),
        encoded(f"2|2026-01-02|{ID}"),
        encoded(f"2|yesterday|{ID}"),
        "A" * 10_000,
    ],
)
def test_a_cursor_of_another_making_is_refused(install: Install, cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_place(cursor)
    with pytest.raises(InvalidCursor):
        page(install(plain), 1, cursor)


@pytest.mark.parametrize(
    "run_id", ["", "x", "{0198c0de-0000-7000-8000-00000000abcd}", "\x00", "x" * 9999]
)
def test_an_id_that_is_none_is_not_found(install: Install, run_id: str) -> None:
    yard = install(plain)
    with pytest.raises(RunNotFound):
        yard.row(run_id)
    with pytest.raises(RunNotFound):
        yard.events(run_id)
    with pytest.raises(RunNotFound):
        yard.run(yard.services.runs.cancel(run_id, Somebody()))


def test_an_id_is_found_in_upper_case_too(install: Install) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    assert yard.row(run_id.upper()).id == run_id


def start(yard: Installation, run_id: str) -> Any:
    values = {"run_id": run_id, "worker": "w:1", "lease_seconds": 20.0}
    return yard.run(apply(yard.services.databases, CLAIM, values))


def test_a_running_run_is_asked_to_stop(install: Install) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    start(yard, run_id)
    for _ in range(2):
        row = yard.run(yard.services.runs.cancel(run_id, Somebody()))
        assert row.status == "RUNNING"
        assert row.cancel_requested_at is not None


def test_another_tenants_run_cannot_be_cancelled(install: Install) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    with pytest.raises(RunNotFound):
        yard.run(yard.services.runs.cancel(run_id, Somebody(tenant="other")))
    assert yard.row(run_id).status == "PENDING"


def test_an_ended_run_cannot_be_cancelled(install: Install) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    yard.deliver(run_id)
    with pytest.raises(RunHasEnded, match="SUCCEEDED"):
        yard.run(yard.services.runs.cancel(run_id, Somebody()))


def test_a_cancel_between_running_and_waiting_is_not_lost(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = install(plain)
    run_id = yard.submit("test.plain").task_id
    claim = start(yard, run_id)
    runs = yard.services.runs
    once = runs._cancel_once  # noqa: SLF001 - between its two statements there is no other door
    tries: list[bool] = []

    async def meanwhile(values: Any) -> bool:
        # It fails and waits for its next attempt between the two statements of the first try.
        if not tries:
            tries.append(False)
            error = {"type": "X", "message": "x", "retryable": True}
            retry = {"run_id": run_id, "held_fence": claim.fence, "error": error}
            await apply(yard.services.databases, RETRY, {**retry, "delay_seconds": 60.0})
            return False
        return await once(values)

    monkeypatch.setattr(runs, "_cancel_once", meanwhile)
    assert yard.run(runs.cancel(run_id, Somebody())).status == "CANCELLED"


def test_the_newest_come_first_whatever_their_ids_are(install: Install) -> None:
    """A run that a plain producer of Celery made has an id without a time in it."""
    yard = install(plain)
    foreign = "00000000-0000-4000-8000-000000000001"
    first = yard.submit("test.plain").task_id
    yard.submit("test.plain", task_id=foreign)
    yard.sql(
        "UPDATE task_runs SET created_at = :then WHERE id = :id",
        id=bound(yard, first),
        then="2026-01-01 00:00:00.000000" if yard.is_sqlite else datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert ids(yard) == [foreign, first]
    assert [row.id for row in page(yard, 1, page(yard, 1).next_cursor).items] == [first]


def test_pages_of_several_statuses_are_merged_without_doubles(install: Install) -> None:
    yard = install(plain, fails)
    made = [yard.submit("test.plain").task_id for _ in range(4)]
    made += [yard.submit("test.fails", {"text": "x"}).task_id for _ in range(4)]
    for run_id in (made[0], made[2], made[5]):
        yard.deliver(run_id)
    wanted = [Status.FAILED, Status.PENDING, Status.FAILED]
    seen: list[str] = []
    cursor = None
    while True:
        part = page(yard, 2, cursor, statuses=wanted)
        seen += [row.id for row in part.items]
        if (cursor := part.next_cursor) is None:
            break
    assert seen == [run_id for run_id in made[::-1] if run_id not in (made[0], made[2])]


def test_a_search_looks_at_so_many_runs_for_a_page_and_goes_on(install: Install) -> None:
    yard = install(plain, other)
    found = [yard.submit("test.other_one").task_id for _ in range(2)]
    for _ in range(5):
        yard.submit("test.plain")
    lists = RunLists(yard.services.databases, search_window=3)
    pages, cursor = [], None
    while True:
        part = yard.run(lists.page(RunFilters(q="other"), 50, cursor, Somebody()))
        pages.append([row.id for row in part.items])
        if (cursor := part.next_cursor) is None:
            break
    assert pages == [[], [found[1]], [found[0]]]
    # A full page ends where the last one that was found is, not where the window does.
    first = yard.run(lists.page(RunFilters(q="test"), 2, None, Somebody()))
    second = yard.run(lists.page(RunFilters(q="test"), 2, first.next_cursor, Somebody()))
    assert [row.id for row in (*first.items, *second.items)] == ids(yard)[:4]
