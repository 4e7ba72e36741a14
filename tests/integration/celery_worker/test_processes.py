"""Worker and beat as real processes: limits, crashes, lost leases, lost brokers, wrong starts."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from app.celery_worker import connections
from app.config.settings import APPLICATION_BIND
from tests.contract.broker.yards import (
    ROOT,
    Yard,
    delete_names,
    environment,
    real_yard,
    start,
    stop,
)
from tests.integration.celery_worker.proxy import Proxy
from tests.services import Services


@pytest.fixture(scope="module")
def proxy(services: Services) -> Iterator[Proxy]:
    opened = Proxy(services.amqp_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def yard(
    services: Services, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    with real_yard(folder, services, TASKYARD_CELERY__BROKER_URL=proxy.url) as yard:
        yield yard


def celery(environ: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", "app.celery_worker.celery_app", *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def celery_environment(yard: Yard) -> dict[str, str]:
    settings = yard.settings.celery
    return {
        **environment(settings.namespace, concurrency=1),
        "TASKYARD_CELERY__BROKER_URL": settings.broker_url.get_secret_value(),
    }


def test_the_worker_answers_a_ping(yard: Yard) -> None:
    yard.await_status(yard.submit("probe.echo_text", {"text": "up"}), "SUCCEEDED")
    answer = celery(celery_environment(yard), "inspect", "ping")
    assert answer.returncode == 0, answer.stderr
    assert f"{yard.settings.celery.namespace}@" in answer.stdout
    assert "pong" in answer.stdout


def test_a_def_task_past_its_limit_fails_and_the_child_goes_on(yard: Yard) -> None:
    row = yard.await_status(yard.submit("probe.sleep_long"), "FAILED")
    assert row.error["type"] == "TimeoutError"
    row = yard.await_status(yard.submit("probe.echo_text", {"text": "next"}), "SUCCEEDED")
    assert row.attempt == 1


def test_a_run_that_ends_its_process_fails_and_the_worker_lives(yard: Yard) -> None:
    run_id = yard.submit("probe.crash_process")
    row = yard.await_status(run_id, "FAILED")
    assert row.attempt == 2
    row = yard.await_status(yard.submit("probe.echo_text", {"text": "alive"}), "SUCCEEDED")
    assert row.attempt == 1


TASKYARD = (sys.executable, "-c", "from app.cli import main; main()")
TAKE_AWAY = (
    "UPDATE task_runs SET status = 'CANCELLED', finished_at = now(), fence = fence + 1 "
    "WHERE id = :id"
)


@pytest.mark.parametrize("task", ["probe.note_name", "probe.hang_process"])
def test_an_attempt_that_lost_its_run_is_stopped(yard: Yard, tmp_path: Path, task: str) -> None:
    note = {"folder": str(tmp_path), "name": "holder", "until": "never"}
    run_id = yard.submit(task, note if task == "probe.note_name" else {})
    yard.await_status(run_id, "RUNNING")
    time.sleep(1.2)  # Two beats: the keeper has seen it as its own.
    sql(yard, TAKE_AWAY, run_id)
    # The worker has one slot, so this runs only when the other attempt has ended.
    row = yard.await_status(yard.submit("probe.echo_text", {"text": "alive"}), "SUCCEEDED")
    assert row.attempt == 1
    assert yard.row(run_id).status == "CANCELLED"


def test_a_long_run_keeps_its_lease(yard: Yard, tmp_path: Path) -> None:
    note = {"folder": str(tmp_path), "name": "holder", "until": "go"}
    run_id = yard.submit("probe.note_name", note)
    yard.await_status(run_id, "RUNNING")
    time.sleep(yard.settings.celery.lease_seconds + 1.0)
    (tmp_path / "go").touch()
    assert yard.await_status(run_id, "SUCCEEDED", "FAILED", "RETRYING").attempt == 1


def test_the_worker_comes_back_after_its_broker_was_gone(yard: Yard, proxy: Proxy) -> None:
    proxy.refuse()
    run_id = yard.submit("probe.echo_text", {"text": "accepted"})
    assert yard.row(run_id).status == "PENDING"
    proxy.accept()
    assert yard.await_status(run_id, "SUCCEEDED").result == "accepted"


def test_a_run_goes_on_while_its_broker_is_gone(yard: Yard, proxy: Proxy, tmp_path: Path) -> None:
    note = {"folder": str(tmp_path), "name": "holder", "until": "go"}
    held = yard.submit("probe.note_name", note)
    yard.await_status(held, "RUNNING")
    proxy.refuse()
    proxy.accept()
    waiting = yard.submit("probe.echo_text", {"text": "next"})
    time.sleep(yard.settings.celery.lease_seconds)
    (tmp_path / "go").touch()
    row = yard.await_status(held, "SUCCEEDED", "FAILED", "RETRYING")
    assert (row.status, row.attempt) == ("SUCCEEDED", 1)
    assert (tmp_path / "order").read_text() == "holder\n"
    assert yard.await_status(waiting, "SUCCEEDED").attempt == 1


def test_a_queue_deleted_under_a_worker_is_declared_again(yard: Yard) -> None:
    with yard.channel() as channel:
        channel.queue_delete(yard.topology.broker_queue("default", 5))
    run_id = yard.submit("probe.echo_text", {"text": "again"})
    assert yard.await_status(run_id, "SUCCEEDED").result == "again"


def test_taskyard_worker_finishes_what_runs_when_it_is_told_to_end(
    yard: Yard, tmp_path: Path
) -> None:
    environ = {**celery_environment(yard), **database_environment(yard)}
    with (tmp_path / "log").open("w") as log:
        worker = subprocess.Popen(
            [*TASKYARD, "worker", "--queues", "slow", "--concurrency", "1"],
            cwd=ROOT,
            env={"PATH": os.environ["PATH"], **environ, "TASKYARD_CELERY__QUEUES": '["slow"]'},
            stdout=log,
            stderr=log,
        )
    note = {"folder": str(tmp_path), "name": "holder", "until": "go"}
    run_id = yard.submit("probe.note_name", note, queue="slow")
    yard.await_status(run_id, "RUNNING")
    worker.send_signal(signal.SIGTERM)
    time.sleep(0.5)
    (tmp_path / "go").touch()
    assert worker.wait(30) == 0, (tmp_path / "log").read_text()
    row = yard.row(run_id)
    assert (row.status, row.attempt) == ("SUCCEEDED", 1)


def test_two_workers_of_one_name_both_work(yard: Yard, tmp_path: Path) -> None:
    environ = {**celery_environment(yard), **database_environment(yard)}
    name = f"{yard.settings.celery.namespace}@%h"
    with (tmp_path / "log").open("w") as log:
        second = start(["worker", "-Q", "slow", "-n", name], environ, tmp_path, log)
    try:
        run_id = yard.submit("probe.echo_text", {"text": "second"}, queue="slow")
        assert yard.await_status(run_id, "SUCCEEDED").result == "second"
        run_id = yard.submit("probe.echo_text", {"text": "first"})
        assert yard.await_status(run_id, "SUCCEEDED").result == "first"
    finally:
        stop(second)
    assert "RESOURCE_LOCKED" not in (tmp_path / "log").read_text()


def test_taskyard_beat_ends_when_it_is_told(yard: Yard, tmp_path: Path) -> None:
    environ = {**celery_environment(yard), **database_environment(yard)}
    beat = subprocess.Popen(
        [*TASKYARD, "beat"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert beat.stderr is not None
    while b"Starting" not in beat.stderr.readline():
        assert beat.poll() is None
    beat.send_signal(signal.SIGTERM)
    assert beat.wait(30) == 0


def database_environment(yard: Yard) -> dict[str, str]:
    url = yard.settings.databases[APPLICATION_BIND].url.get_secret_value()
    return {"TASKYARD_DATABASES__POSTGRES_MAIN__URL": url}


def sql(yard: Yard, statement: str, run_id: str) -> None:
    async def execute() -> None:
        async with yard.services.databases.begin(APPLICATION_BIND) as connection:
            await connection.execute(text(statement), {"id": run_id})

    yard.runner.run(execute())


def test_a_queue_with_other_arguments_stops_the_start_and_is_named(
    services: Services, tmp_path: Path
) -> None:
    name = f"{services.namespace}-misfit"
    environ = {
        **environment(name, concurrency=1),
        "TASKYARD_CELERY__BROKER_URL": services.amqp_url,
        "TASKYARD_DATA_DIR": str(tmp_path),
    }
    connection: Any = connections.open_connection(services.amqp_url, timeout_seconds=5)
    queue = f"{name}.default"
    try:
        connection.channel().queue_declare(queue, durable=True, auto_delete=False)
        answer = celery(environ, "worker", "-P", "solo")
    finally:
        from app.config import load_settings

        delete_names(load_settings(data_dir=tmp_path, environ=environ))
        connection.close()
    assert answer.returncode != 0
    assert queue in answer.stderr
    assert f"delete_queue {queue}" in answer.stderr


@pytest.mark.parametrize("command", ["worker", "beat"])
def test_the_in_process_broker_stops_a_process_of_its_own(command: str, tmp_path: Path) -> None:
    environ = {"TASKYARD_CELERY__BROKER_URL": "inproc://", "TASKYARD_DATA_DIR": str(tmp_path)}
    answer = celery(environ, command)
    assert answer.returncode != 0
    assert "inproc://" in answer.stderr
    assert "one process" in answer.stderr


def test_an_unknown_class_of_queues_stops_the_start(services: Services, tmp_path: Path) -> None:
    environ = {
        **environment(services.namespace, concurrency=1),
        "TASKYARD_CELERY__BROKER_URL": services.amqp_url,
        "TASKYARD_DATA_DIR": str(tmp_path),
    }
    answer = celery(environ, "worker", "-P", "solo", "-Q", "defualt")
    assert answer.returncode != 0
    assert "defualt" in answer.stderr
