"""Pausing a queue, on a worker in this process and on one of its own."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.tasks.queues import QueueState
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


def state(yard: Yard) -> QueueState:
    return yard.runner.run(yard.services.queues.get("default"))


def pause(yard: Yard, *, ready: int = 0) -> None:
    """Pause the queue and return when its worker has let go of it and of what it had not begun."""
    yard.runner.run(yard.services.queues.pause("default", Somebody(), reason="a test"))

    def is_obeyed() -> bool | None:
        level = state(yard)
        # RabbitMQ counts a consumer until it has settled its last message.
        is_gone = level.consumers == 0 or (yard.worker_pid and level.unacknowledged)
        return True if is_gone and level.ready == ready else None

    await_it(is_obeyed, lambda: repr(state(yard)))


def resume(yard: Yard) -> None:
    yard.runner.run(yard.services.queues.resume("default", Somebody()))


def test_a_paused_queue_keeps_its_work_in_order_and_running_work_ends(
    yard: Yard, tmp_path: Path
) -> None:
    note = {"folder": str(tmp_path)}
    running = yard.submit("probe.note_name", {**note, "name": "running", "until": "go"})
    yard.await_status(running, "RUNNING")
    # On RabbitMQ the worker holds these already and has no slot for them.
    early = [yard.submit("probe.note_name", {**note, "name": name}) for name in ("one", "two")]
    pause(yard, ready=2)
    late = [yard.submit("probe.note_name", {**note, "name": name}) for name in ("three", "four")]
    delayed = yard.submit("probe.note_name", {**note, "name": "delayed"}, delay_seconds=0.2)
    (tmp_path / "go").touch()
    yard.await_status(running, "SUCCEEDED")
    # Longer than a sweep, a poll and the delay take.
    time.sleep(2)
    assert [yard.row(run_id).status for run_id in (*early, *late)] == ["PENDING"] * 4
    assert yard.row(delayed).status == "SCHEDULED"
    level = state(yard)
    assert (level.consumers, level.ready) == (0, 5)
    resume(yard)
    for run_id in (*early, *late, delayed):
        yard.await_status(run_id, "SUCCEEDED")
    order = (tmp_path / "order").read_text().split()
    assert order == ["running", "one", "two", "three", "four", "delayed"]


def test_another_queue_is_not_paused(yard: Yard) -> None:
    pause(yard)
    try:
        waiting = yard.submit("probe.echo_text", {"text": "waits"})
        if yard.worker_pid is None:
            # The worker of its own consumes from `default` only.
            other = yard.submit("probe.echo_text", {"text": "goes"}, queue="slow")
            yard.await_status(other, "SUCCEEDED")
        assert yard.row(waiting).status == "PENDING"
    finally:
        resume(yard)
    yard.await_status(waiting, "SUCCEEDED")


def test_a_drained_worker_ends_what_runs_and_takes_no_more(yard: Yard, tmp_path: Path) -> None:
    workers = yard.services.workers

    def running() -> str | None:
        rows = yard.runner.run(workers.list())
        return next((row.name for row in rows if row.is_alive and row.active == 1), None)

    note = {"folder": str(tmp_path), "name": "holder", "until": "go"}
    held = yard.submit("probe.note_name", note)
    yard.await_status(held, "RUNNING")
    name = await_it(running, lambda: repr(yard.runner.run(workers.list())))
    yard.runner.run(workers.drain(name, Somebody()))
    await_it(lambda: state(yard).consumers == 0 or yard.worker_pid, lambda: repr(state(yard)))
    time.sleep(yard.services.settings.celery.heartbeat_seconds + 1)
    (tmp_path / "go").touch()
    assert yard.await_status(held, "SUCCEEDED").attempt == 1
    waiting = yard.submit("probe.echo_text", {"text": "later"})
    time.sleep(2)
    assert yard.row(waiting).status == "PENDING"
    yard.runner.run(workers.resume(name, Somebody()))
    assert yard.await_status(waiting, "SUCCEEDED").attempt == 1
