"""A worker that stands still in the middle of its commit: its run is taken back all the same."""

from collections.abc import Callable, Iterator

import psycopg
import pytest

from app import register_task
from app.config import Settings
from app.config.settings import APPLICATION_BIND
from app.tasks.frozen_sessions import end_frozen_sessions
from app.tasks.sweeper import Sweeper
from tests.contract.tasks.test_run_life import claim
from tests.harness import Installation

Install = Callable[..., Installation]
SUCCEED = "UPDATE task_runs SET status = 'SUCCEEDED' WHERE id = %s"


@register_task("test.freeze")
async def freeze() -> None:
    """Stand still, in the tests' imagination."""


@pytest.fixture
def session(installed_settings: Settings) -> Iterator[psycopg.Connection]:
    url = installed_settings.databases[APPLICATION_BIND].url.get_secret_value()
    if url.startswith("sqlite"):
        pytest.skip("SQLite has no row locks and no second process")
    connection = psycopg.connect(url.replace("+asyncpg", ""))
    yield connection
    connection.close()


def freeze_within_a_statement(session: psycopg.Connection, run_id: str) -> None:
    """Let the server do the statement and wait for the end of its messages, which never comes."""
    session.execute("SET LOCAL idle_in_transaction_session_timeout = '50ms'")
    session.execute("SET LOCAL statement_timeout = '50ms'")
    # Past psycopg, whose pipeline sends the end of the messages when it is collected as garbage.
    driver = session.pgconn
    driver.enter_pipeline_mode()
    driver.send_query_params(SUCCEED.replace("%s", "$1").encode(), [run_id.encode()])
    driver.send_flush_request()
    driver.flush()


def sweep(yard: Installation) -> str:
    assert yard.run(yard_sweeper(yard).sweep())
    return str(yard.sql("SELECT status FROM task_runs")[0][0])


def yard_sweeper(yard: Installation) -> Sweeper:
    yard.sql("DELETE FROM leases")
    return Sweeper(yard.services)


def lost(yard: Installation) -> str:
    run_id = yard.submit("test.freeze").task_id
    claim(yard, run_id)
    yard.lose_lease(run_id)
    return run_id


def test_a_session_that_froze_within_a_statement_is_ended(
    install: Install, session: psycopg.Connection
) -> None:
    yard = install(freeze)
    run_id = lost(yard)
    freeze_within_a_statement(session, run_id)
    # Young, it is left alone, and so is its run; no limit of the server's own ends it.
    assert yard.run(end_frozen_sessions(yard.services.databases, 60.0)) == []
    assert sweep(yard) == "RUNNING"
    yard.sql("SELECT pg_sleep(0.2)")
    assert sweep(yard) == "RUNNING"
    assert yard.run(end_frozen_sessions(yard.services.databases, 0.1)) == [run_id]
    yard.sql("SELECT pg_sleep(0.2)")
    assert sweep(yard) == "RETRYING"


def test_the_session_of_a_living_worker_is_left_alone(
    install: Install, session: psycopg.Connection
) -> None:
    yard = install(freeze)
    run_id = yard.submit("test.freeze").task_id
    claim(yard, run_id)
    session.execute(SUCCEED, [run_id])
    yard.sql("SELECT pg_sleep(0.2)")
    # It is idle in its transaction, but its lease holds.
    assert yard.run(end_frozen_sessions(yard.services.databases, 0.1)) == []
    session.commit()
    assert yard.row(run_id).status == "SUCCEEDED"


def test_what_locks_other_rows_is_left_alone(install: Install, session: psycopg.Connection) -> None:
    yard = install(freeze)
    other = yard.submit("test.freeze").task_id
    lost(yard)
    session.execute(SUCCEED, [other])
    yard.sql("SELECT pg_sleep(0.2)")
    assert yard.run(end_frozen_sessions(yard.services.databases, 0.1)) == []
    session.commit()
