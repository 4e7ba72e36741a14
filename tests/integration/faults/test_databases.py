"""Postgres restarted, MariaDB away in the middle of a lint job, Redis gone, frozen and flushed."""

import json
from collections.abc import Iterator

import pytest

from tests.integration.faults.load import Load
from tests.integration.faults.nodes import Kit, Mysql, Postgres, Rabbit, Redis
from tests.integration.faults.processes import wait_until
from tests.integration.faults.recovery import is_ready
from tests.integration.faults.stack import PLUGIN, QUICK, Stack
from tests.integration.faults.verdict import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
SEED = 17


@pytest.fixture(scope="module")
def stack(
    kit: Kit, postgres: Postgres, broker: Rabbit, mysql: Mysql, redis_node: Redis
) -> Iterator[Stack]:
    """An installation on all four services, with the lint plugin."""
    settings = {
        **QUICK,
        "TASKYARD_PLUGINS": json.dumps(["archive", "lint", PLUGIN]),
        "TASKYARD_DATABASES__MYSQL_LINT__URL": mysql.create_database("lint"),
        "TASKYARD_REDIS__URL": redis_node.url,
    }
    opened = Stack(kit, postgres, broker_url=broker.url, settings=settings)
    try:
        opened.start(workers=1)
        yield opened
    finally:
        opened.end()


def test_an_immediate_restart_of_postgres_costs_time_only(stack: Stack, postgres: Postgres) -> None:
    load = Load(stack, "faults.note_effect", count=150, rate=20, seed=SEED).start()
    wait_until(lambda: len(stack.starts()) > 10, "runs start")
    postgres.restart_immediately()
    answers = load.join()
    stack.await_all_ended()
    verdict = judge(stack, answers.accepted)
    assert verdict.faults == {}, (verdict, stack.folder)
    wait_until(lambda: is_ready(stack), "the API is ready again")
    # What it could not take it said so; nothing was an error of ours.
    assert "500" not in answers.others, answers.others


def test_a_lint_job_survives_the_absence_of_its_database(stack: Stack, mysql: Mysql) -> None:
    stack.workers[0].freeze()  # Else the job has ended before its database is away.
    answer = stack.post("/api/v1/jobs", sql_content="SELECT a FROM b\n")
    assert answer.status_code == 202, answer.text
    mysql.stop()
    stack.workers[0].thaw()
    try:
        retried = "SELECT 1 FROM task_run_events WHERE to_status = 'RETRYING'"
        wait_until(lambda: bool(stack.sql(retried)), "an attempt has met the absence")
        # The rest of the product does not notice.
        run_id = stack.submit("faults.note_effect")
        assert stack.await_status(run_id, "SUCCEEDED", "FAILED") == "SUCCEEDED"
        assert stack.post("/api/v1/jobs", sql_content="SELECT 1\n").status_code == 503
    finally:
        mysql.start()
    job_id = answer.json()["job_id"]

    def state() -> str:
        detail = stack.get(f"/api/v1/jobs/{job_id}")
        return str(detail.json()["job_status"]) if detail.status_code == 200 else ""

    wait_until(lambda: state() in ("COMPLETED", "FAILED", "PARTIALLY_COMPLETED"), "the job ends")
    assert state() == "COMPLETED"


@pytest.mark.parametrize("fate", ["gone", "frozen", "flushed"])
def test_nothing_depends_on_redis(stack: Stack, redis_node: Redis, fate: str) -> None:
    match fate:
        case "gone":
            redis_node.kill()
        case "frozen":
            redis_node.freeze()
        case _:
            redis_node.connect().flushall()
    try:
        asked = [stack.submit("faults.ask_cache", {"key": f"{fate}-{turn}"}) for turn in range(4)]
        answers = Load(stack, "faults.note_effect", count=20, rate=20, seed=SEED).start().join()
        stack.await_all_ended()
    finally:
        if fate == "gone":
            redis_node.start()
        redis_node.thaw()
    results = [stack.get(f"/api/v1/tasks/{run_id}").json()["result"] for run_id in asked]
    assert results == [f"value of {fate}-{turn}" for turn in range(4)]
    assert answers.others == {}
    assert judge(stack, [*asked, *answers.accepted], effects=False).faults == {}


def test_both_databases_hold_the_same_runs_after_a_crash_between_them(
    stack: Stack, mysql: Mysql
) -> None:
    connection = mysql.connect()
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS lint.fault_effects "
            "(run_id VARCHAR(36) PRIMARY KEY, attempt INT NOT NULL)"
        )
        worker = stack.workers[0]
        # It keeps the failpoint, so this is the last test of the file.
        worker.restart(TASKYARD_FAILPOINTS="outcome.between_binds=exit:2")
        stack.await_workers()
        runs = [stack.submit("faults.write_both") for _ in range(6)]
        stack.await_all_ended()
        cursor.execute("SELECT run_id, attempt FROM lint.fault_effects")
        elsewhere = dict(cursor.fetchall())
    verdict = judge(stack, runs)
    assert verdict.faults == {}, verdict
    assert verdict.retried > 0
    assert elsewhere == {run_id: stack.attempt(run_id) for run_id in runs}
