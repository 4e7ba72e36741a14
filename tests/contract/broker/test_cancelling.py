"""Cancelling what runs, on a worker in this process and on one of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.broker.yards import Yard, await_it, open_yard
from tests.harness import Somebody
from tests.services import Services


@pytest.fixture(scope="module", params=["embedded", "real", "tiny"])
def yard(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    with open_yard(request.param, folder, services) as yard:
        yield yard


def cancel(yard: Yard, run_id: str) -> None:
    yard.await_status(run_id, "RUNNING")
    yard.runner.run(yard.services.runs.cancel(run_id, Somebody()))


def assert_cancelled_and_the_worker_goes_on(yard: Yard, run_id: str) -> None:
    row = yard.await_status(run_id, "CANCELLED", "FAILED", "SUCCEEDED", "RETRYING")
    assert (row.status, row.attempt, row.error, row.dead_letter_id) == ("CANCELLED", 1, None, None)
    # The worker has one slot, so this runs only when the attempt has ended.
    row = yard.await_status(yard.submit("probe.echo_text", {"text": "next"}), "SUCCEEDED")
    assert row.attempt == 1
    events = yard.runner.run(yard.services.runs.events(run_id, Somebody()))
    assert [event.to_status for event in events] == ["PENDING", "RUNNING", "CANCELLED"]
    assert yard.row(run_id).status == "CANCELLED"


def test_a_coroutine_that_does_not_look_is_cancelled_after_its_grace(
    yard: Yard, tmp_path: Path
) -> None:
    note = {"folder": str(tmp_path), "name": "holder", "until": "never"}
    run_id = yard.submit("probe.note_name", note)
    cancel(yard, run_id)
    assert_cancelled_and_the_worker_goes_on(yard, run_id)


@pytest.mark.parametrize("task", ["probe.hang_process", "probe.ignore_signals"])
def test_a_process_that_does_not_listen_is_killed_after_the_grace(yard: Yard, task: str) -> None:
    if yard.worker_pid is None:
        pytest.skip("a thread cannot be killed")
    run_id = yard.submit(task)
    cancel(yard, run_id)
    assert_cancelled_and_the_worker_goes_on(yard, run_id)


def test_a_function_in_a_thread_ends_by_itself(yard: Yard, tmp_path: Path) -> None:
    if yard.worker_pid is not None:
        pytest.skip("a process can be killed")
    path = tmp_path / "go"
    run_id = yard.submit("probe.wait_for_file", {"path": str(path)})
    cancel(yard, run_id)
    beats = yard.row(run_id).lease_expires_at
    # Two beats after the grace of a second it still runs, under its lease.
    await_it(lambda: (yard.row(run_id).lease_expires_at - beats).total_seconds() > 2 or None)
    assert yard.row(run_id).status == "RUNNING"
    path.touch()
    row = yard.await_status(run_id, "SUCCEEDED", "CANCELLED", "FAILED")
    assert (row.status, row.result) == ("SUCCEEDED", str(path))
