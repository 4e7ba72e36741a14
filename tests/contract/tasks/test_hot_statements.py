"""What every statement of daily work reads: a few rows, however many there are.

Each statement that the work sends is explained on a table with many runs, and the rows that its
scans touch are counted. A missing index, or a condition that no longer fits its partial index,
shows as thousands of rows.
"""

import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ClauseElement

from app import TaskContext, register_task
from app.config.settings import APPLICATION_BIND
from app.tasks.dead_letter_queries import DeadLetterFilters
from app.tasks.heartbeat import beat_leases
from app.tasks.retention import Retention
from app.tasks.run_lists import RunFilters
from app.tasks.run_streams import RunStreams
from app.tasks.statuses import Status
from app.tasks.sweeper import Sweeper
from app.tasks.transitions import CLAIM_MANY, LOOK_MANY, RELEASE_MANY, SUCCEED_MANY
from bench.generated_runs import BATCH, PARENT, TENANT, TRACE_OF_BATCH, generate
from tests.harness import Installation, Somebody, settings_on
from tests.services import Services

ROWS = 20_000
# A page of 50 from eight ranges of an index, or a round of a sweep; a scan would be all rows.
MOST_READ = 1_500
Sent = list[tuple[str, Any]]
Work = Callable[[Installation], object]


@register_task("test.telling")
async def telling(ctx: TaskContext) -> None:
    """Tell of the work."""
    ctx.log.info("working")
    await ctx.progress(1, 2)


@pytest.fixture(scope="module")
def yard(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    url = services.create_database("postgres")
    settings = settings_on(tmp_path_factory.mktemp("hot"), postgres_url=url)
    generate(settings, ROWS)
    installation = Installation(settings, [telling])
    yield installation
    installation.close()


def listing(*, tenant: str | None = None, **filters: Any) -> Work:
    def work(yard: Installation) -> object:
        caller = Somebody(tenant=tenant)
        return yard.run(yard.services.runs.list(RunFilters(**filters), 50, None, caller))

    return work


def paging(yard: Installation) -> object:
    """Return the page after a page, far behind."""
    lists = yard.services.runs
    first = yard.run(
        lists.list(
            RunFilters(created_before=datetime.now(UTC) - timedelta(seconds=ROWS // 2)),
            50,
            None,
            Somebody(),
        )
    )
    assert len(first.items) == 50
    return yard.run(lists.list(RunFilters(), 50, first.next_cursor, Somebody()))


def living(yard: Installation) -> object:
    run_id = yard.submit("test.telling", idempotency_key="life").task_id
    yard.submit("test.telling", idempotency_key="life")
    yard.deliver(run_id)
    assert yard.row(run_id).status == Status.SUCCEEDED
    return yard.run(yard.services.runs.logs_page(run_id, Somebody(), limit=50))


def cancelling(yard: Installation) -> object:
    return yard.run(yard.services.runs.cancel(yard.submit("test.telling").task_id, Somebody()))


def beating(yard: Installation) -> object:
    return beat_leases(
        yard.services.databases,
        "worker@host",
        [(BATCH, 1)],
        lease_seconds=20.0,
        cancel_grace_seconds=5.0,
    )


def following(yard: Installation) -> object:
    run_id = yard.submit("test.telling").task_id

    async def follow() -> None:
        streams = RunStreams(yard.services.databases)
        told = streams.follow(run_id, 0, 0.5)
        assert await anext(told)
        assert await anext(told) == []
        await told.aclose()

    return yard.run(follow())


def counting(yard: Installation) -> object:
    yard.submit("test.telling", task_id=PARENT)
    counts = yard.run(yard.services.runs.children(PARENT, Somebody()))
    assert sum(counts.values()) > 100
    return counts


def looking_at_letters(yard: Installation) -> object:
    letters = yard.services.dead_letters
    return yard.run(letters.list(DeadLetterFilters(), 50, None, Somebody()))


WORK: dict[str, Work] = {
    "first page": listing(),
    "deep page": paging,
    "status": listing(statuses=[Status.FAILED]),
    "a status that nothing has": listing(statuses=[Status.RETRYING]),
    "three statuses": listing(statuses=[Status.RETRYING, Status.CANCELLED, Status.EXPIRED]),
    "task": listing(task="plugin.task_3"),
    "task and status": listing(task="plugin.task_3", statuses=[Status.RETRYING, Status.FAILED]),
    "a task that nothing has": listing(task="no.such_task"),
    "queue": listing(queue="queue_1"),
    "queue and status": listing(queue="queue_1", statuses=[Status.RETRYING]),
    "status and label": listing(statuses=[Status.SUCCEEDED], labels={"team": "team-1"}),
    "a label that nothing has": listing(labels={"team": "nobody"}),
    "batch": listing(batch_id=BATCH),
    "children": listing(parent_id=PARENT),
    "trace": listing(trace_id=TRACE_OF_BATCH),
    "of a tenant": listing(tenant=TENANT),
    "status of a tenant": listing(tenant=TENANT, statuses=[Status.FAILED]),
    "task of a tenant": listing(tenant=TENANT, task="plugin.task_4"),
    "of a tenant that has nothing": listing(tenant="nobody"),
    "the life of a run": living,
    "cancel": cancelling,
    "heartbeat": beating,
    "stream": following,
    "sweep": lambda yard: yard.run(Sweeper(yard.services).sweep()),
    "retention": lambda yard: yard.run(Retention(yard.services).purge()),
    "count of children": counting,
    "dead letters": looking_at_letters,
}


@pytest.mark.parametrize("name", WORK)
def test_no_statement_of_daily_work_reads_much_of_a_large_table(
    yard: Installation, name: str, subtests: pytest.Subtests
) -> None:
    sent = capture(yard, WORK[name])
    assert sent
    for statement, parameters in sent:
        with subtests.test(statement=statement[:300]):
            assert rows_read(yard, statement, parameters) <= MOST_READ


HOT: dict[str, tuple[ClauseElement, dict[str, Any]]] = {
    "claim": (CLAIM_MANY.in_one_statement, {"lease_seconds": 15.0}),
    "look": (LOOK_MANY, {}),
    "succeed": (
        SUCCEED_MANY.in_one_statement,
        {"held_fences": [], "results": [], "result_refs": []},
    ),
    "release": (RELEASE_MANY.in_one_statement, {"owner": "worker@host:1"}),
}


@pytest.mark.parametrize("name", HOT)
def test_a_hot_statement_reads_the_rows_that_it_names(yard: Installation, name: str) -> None:
    # They go past SQLAlchemy, and the server plans them once, without the values.
    hot_statement, values = HOT[name]
    ids = [str(row.id) for row in yard.sql("SELECT id FROM task_runs ORDER BY id DESC LIMIT 30")]
    values = {"actor": "w", "worker": "w", "detail": None, "ahead": 0, "run_ids": ids, **values}
    for column in ("held_fences", "results", "result_refs"):
        if column in values:
            values[column] = [None] * len(ids)
    databases = yard.services.databases
    hot = databases.hot_connection(APPLICATION_BIND)
    statement, constants = hot.text_of(hot_statement, values)
    with databases.get_sync_engine(APPLICATION_BIND).connect() as connection:
        plan = generic_plan(
            connection.connection.driver_connection, statement, {**constants, **values}
        )
        connection.rollback()
    assert 0 < sum(_scanned(plan)) <= 2 * len(ids)


def generic_plan(driver: Any, statement: str, values: dict[str, Any]) -> dict[str, Any]:
    """Execute the statement as the hot connection does and return its plan."""
    names = re.findall(r"%\((\w+)\)s", statement)
    for number, name in enumerate(names, 1):
        statement = statement.replace(f"%({name})s", f"${number}", 1)
    driver.execute("SET LOCAL plan_cache_mode = force_generic_plan")
    driver.execute(f"PREPARE hot AS {statement}")
    cursor = psycopg.ClientCursor(driver)
    places = ", ".join(["%s"] * len(names))
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot({places})"
    told: Any = cursor.execute(explain, [values[name] for name in names]).fetchone()
    driver.execute("DEALLOCATE hot")
    plan: dict[str, Any] = told[0][0]["Plan"]
    return plan


def capture(yard: Installation, work: Work) -> Sent:
    """Do the work and return the statements that it has sent, each once, as the driver saw them."""
    databases = yard.services.databases
    sent: dict[str, Any] = {}

    def note(
        connection: Connection, cursor: Any, statement: str, parameters: Any, *_: object
    ) -> None:
        if statement.lstrip().split(None, 1)[0] in {"SELECT", "WITH", "UPDATE", "DELETE"}:
            sent.setdefault(
                statement, parameters[0] if isinstance(parameters, list) else parameters
            )

    async def engine() -> Any:
        return databases.get_engine(APPLICATION_BIND).sync_engine

    engines = [yard.run(engine()), databases.get_sync_engine(APPLICATION_BIND)]
    for one in engines:
        event.listen(one, "before_cursor_execute", note)
    try:
        work(yard)
    finally:
        for one in engines:
            event.remove(one, "before_cursor_execute", note)
    return list(sent.items())


def rows_read(yard: Installation, statement: str, parameters: Any) -> int:
    """Return how many rows the scans of the statement touch; what it changes is rolled back."""
    explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
    databases = yard.services.databases
    if "%(" in statement:
        with databases.get_sync_engine(APPLICATION_BIND).connect() as connection:
            told = connection.exec_driver_sql(explain, parameters).scalar()
            connection.rollback()
        return _read(told)

    async def ask() -> Any:
        async with databases.get_engine(APPLICATION_BIND).connect() as connection:
            return (await connection.exec_driver_sql(explain, parameters)).scalar()

    return _read(yard.run(ask()))


def _read(told: Any) -> int:
    document = json.loads(told) if isinstance(told, str) else told
    return sum(_scanned(document[0]["Plan"]))


def _scanned(node: dict[str, Any]) -> Iterator[int]:
    if "Relation Name" in node and "Scan" in node["Node Type"]:
        touched = (
            node["Actual Rows"]
            + node.get("Rows Removed by Filter", 0)
            + node.get("Rows Removed by Index Recheck", 0)
        )
        yield round(touched * node["Actual Loops"])
    for child in node.get("Plans", ()):
        yield from _scanned(child)
