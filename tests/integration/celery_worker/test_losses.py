"""Real processes that are killed: the run goes on at once, whatever its lease says."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.config.settings import APPLICATION_BIND
from tests.contract.broker.yards import Yard, await_it, environment, real_yard, start, stop
from tests.services import Services

LEASE = {
    "TASKYARD_CELERY__LEASE_SECONDS": "300",
    "TASKYARD_CELERY__UNPUBLISHED_AFTER_SECONDS": "1",
}


@pytest.fixture(scope="module")
def yard(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    with real_yard(tmp_path_factory.mktemp("yard"), services, **LEASE) as yard:
        yield yard


def hold(folder: Path) -> dict[str, str]:
    return {"folder": str(folder), "name": "holder", "until": "go"}


def transitions(yard: Yard, run_id: str) -> list[str]:
    from tests.harness import Somebody

    rows = yard.runner.run(yard.services.runs.events(run_id, Somebody()))
    return [row.to_status for row in rows]


def begun(folder: Path) -> int:
    order = folder / "order"
    return len(order.read_text().splitlines()) if order.exists() else 0


def test_a_run_whose_process_is_killed_goes_on_before_its_lease_ends(
    yard: Yard, tmp_path: Path
) -> None:
    run_id = yard.submit("probe.note_name", hold(tmp_path))
    await_it(lambda: begun(tmp_path) or None)
    owner = yard.row(run_id).lease_owner
    os.kill(int(owner.rpartition(":")[2]), signal.SIGKILL)
    await_it(lambda: begun(tmp_path) == 2 or None, lambda: repr(yard.row(run_id)))
    (tmp_path / "go").touch()
    assert yard.await_status(run_id, "SUCCEEDED").attempt == 2
    told = ["PENDING", "RUNNING", "RETRYING", "RUNNING", "SUCCEEDED"]
    assert transitions(yard, run_id) == told


def test_a_run_that_crashes_its_process_fails_before_its_lease_ends(yard: Yard) -> None:
    row = yard.await_status(yard.submit("probe.crash_process"), "FAILED")
    assert (row.error["type"], row.attempt) == ("WorkerLost", 2)
    assert "SIGSEGV" in row.error["message"]
    assert [str(letter.id) for letter in yard.dead_letters()] == [row.dead_letter_id]


def test_the_hard_limit_ends_what_hangs_before_its_lease_ends(yard: Yard) -> None:
    run_id = yard.submit("probe.hang_first")
    row = yard.await_status(run_id, "RETRYING")
    assert row.error["type"] == "TimeoutError"
    assert "hard limit" in row.error["message"]
    row = yard.await_status(run_id, "SUCCEEDED", "FAILED")
    assert (row.status, row.attempt, row.result) == ("SUCCEEDED", 2, 2)


def start_slow(yard: Yard, folder: Path, name: str, **more: str) -> subprocess.Popen[bytes]:
    settings = yard.settings
    environ = {
        **environment(settings.celery.namespace, concurrency=1),
        **LEASE,
        "TASKYARD_CELERY__BROKER_URL": settings.celery.broker_url.get_secret_value(),
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": settings.databases[
            APPLICATION_BIND
        ].url.get_secret_value(),
        **more,
    }
    with (folder / "log").open("a") as log:
        return start(["worker", "-Q", "slow", "-n", f"{name}@%h"], environ, folder, log)


def test_a_worker_that_ends_gives_back_what_outlives_its_grace(yard: Yard, tmp_path: Path) -> None:
    first = start_slow(yard, tmp_path, "first", TASKYARD_CELERY__SHUTDOWN_GRACE_SECONDS="0.5")
    try:
        held = yard.submit("probe.note_name", hold(tmp_path), queue="slow")
        await_it(lambda: begun(tmp_path) or None, (tmp_path / "log").read_text)
        waiting = [yard.submit("probe.echo_text", {"text": "x"}, queue="slow") for _ in range(3)]
        first.send_signal(signal.SIGTERM)
        assert first.wait(30) == 0, (tmp_path / "log").read_text()
    finally:
        stop(first)
    rows = [yard.row(run_id) for run_id in (held, *waiting)]
    assert [(row.status, row.attempt, row.lease_owner) for row in rows] == [
        ("PENDING", 0, None)
    ] * 4
    assert rows[0].fence == 2
    (tmp_path / "go").touch()
    second = start_slow(yard, tmp_path, "second")
    try:
        for run_id in (held, *waiting):
            assert yard.await_status(run_id, "SUCCEEDED", "FAILED").attempt == 1
    finally:
        stop(second)
