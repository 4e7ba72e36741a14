import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from celery.worker import state
from sqlalchemy import text

from app.celery_worker.leases import ForkGate, LeaseKeeper
from app.celery_worker.runtime import Runtimes
from app.celery_worker.stopping import kill_if_running
from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.transport import Wakeup
from tests.harness import migrate, settings_on
from tests.unit.celery_worker.stand_ins import Yard


@dataclass(eq=False)
class Request:
    id: str = field(default_factory=new_id)
    name: str = "test.task"
    worker_pid: int | None = 7
    terminated: bool = False
    group: tuple[str, ...] = ()
    begun: str | None = None
    _apply_result: Any = None

    def __post_init__(self) -> None:
        self.begun = self.begun or self.id

    @property
    def run_ids(self) -> tuple[str, ...]:
        return self.group or (self.id,)

    def terminate(self, pool: Any) -> None:
        self.terminated = True


class Pool:
    def terminate_job(self) -> None:
        """What only a pool of processes has."""


class Hub:
    def call_soon(self, call: Any, *arguments: Any) -> None:
        call(*arguments)

    def call_later(self, seconds: float, call: Any, *arguments: Any) -> None:
        assert seconds > 0


@dataclass
class Worker:
    hostname: str = "w@h"
    pool: Any = field(default_factory=Pool)
    hub: Any = field(default_factory=Hub)


@pytest.fixture
def databases(tmp_path: Path) -> Iterator[Databases]:
    settings = settings_on(tmp_path)
    migrate(settings)
    opened = Databases(settings.databases)
    yield opened
    opened.dispose_sync()


@pytest.fixture
def requests() -> Iterator[list[Request]]:
    found = [Request(), Request(name="plain.task"), Request(worker_pid=None)]
    for request in found:
        state.active_requests.add(request)
    yield found
    state.active_requests.clear()


def running_row(databases: Databases, run_id: str, owner: str = "w@h:7") -> None:
    columns = dict.fromkeys(("task", "function"), "test.task")
    columns |= {"id": run_id, "status": "RUNNING", "params": "{}", "queue": "default"}
    columns |= {"options": "{}", "labels": "{}"}
    columns |= {"lease_owner": owner, "lease_expires_at": "2001-01-01 00:00:00.000000"}
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        known = connection.execute(text("PRAGMA table_info(task_runs)")).all()
        for _, name, kind, not_null, default, _ in known:
            if not_null and default is None and name not in columns:
                columns[name] = "0" if "INT" in kind else "x"
        names = ", ".join(columns)
        values = ", ".join(f":{name}" for name in columns)
        connection.execute(text(f"INSERT INTO task_runs ({names}) VALUES ({values})"), columns)


def set_owner(databases: Databases, run_id: str, owner: str) -> None:
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        statement = text("UPDATE task_runs SET lease_owner = :owner WHERE id = :id")
        connection.execute(statement, {"owner": owner, "id": run_id})


def lease_of(databases: Databases, run_id: str) -> str:
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        statement = text("SELECT lease_expires_at FROM task_runs WHERE id = :id")
        return str(connection.execute(statement, {"id": run_id}).scalar_one())


def test_a_beat_renews_the_runs_of_this_worker(
    databases: Databases, requests: list[Request]
) -> None:
    ours, theirs = requests[0].id, new_id()
    running_row(databases, ours)
    running_row(databases, theirs, "other@h:7")
    LeaseKeeper(Yard().site, Worker()).beat(databases)
    assert not lease_of(databases, ours).startswith("2001")
    assert lease_of(databases, theirs).startswith("2001")


def test_a_run_that_was_taken_over_is_stopped_after_two_misses(
    databases: Databases, requests: list[Request]
) -> None:
    request = requests[0]
    running_row(databases, request.id)
    keeper = LeaseKeeper(Yard().site, Worker())
    keeper.beat(databases)
    set_owner(databases, request.id, "other@h:9")
    keeper.beat(databases)
    assert not request.terminated
    keeper.beat(databases)
    assert request.terminated


def test_a_run_that_is_not_claimed_yet_is_left_alone(
    databases: Databases, requests: list[Request]
) -> None:
    keeper = LeaseKeeper(Yard().site, Worker())
    for _ in range(4):
        keeper.beat(databases)
    assert not requests[0].terminated


@pytest.mark.parametrize("pid", [8, 7])
def test_the_misses_of_a_dead_attempt_are_not_the_next_ones(
    databases: Databases, requests: list[Request], pid: int
) -> None:
    dead = requests[0]
    running_row(databases, dead.id)
    keeper = LeaseKeeper(Yard().site, Worker())
    keeper.beat(databases)
    set_owner(databases, dead.id, "nobody")
    keeper.beat(databases)
    state.active_requests.discard(dead)
    again = Request(id=dead.id, worker_pid=pid)
    state.active_requests.add(again)
    keeper.beat(databases)
    keeper.beat(databases)
    assert not again.terminated


def test_of_a_group_all_leases_are_renewed_and_what_has_ended_is_not_missed(
    databases: Databases, requests: list[Request]
) -> None:
    group = Request(id="group-1", group=(new_id(), new_id(), new_id()))
    state.active_requests.add(group)
    for run_id in group.group:
        running_row(databases, run_id)
    group.begun = group.group[1]
    keeper = LeaseKeeper(Yard().site, Worker())
    keeper.beat(databases)
    assert not any(lease_of(databases, run_id).startswith("2001") for run_id in group.group)
    # The first one has ended, and the last one cannot have begun.
    for run_id in (group.group[0], group.group[2]):
        set_owner(databases, run_id, "other")
    for _ in range(3):
        keeper.beat(databases)
    assert not group.terminated
    set_owner(databases, group.group[1], "other")
    keeper.beat(databases)
    keeper.beat(databases)
    assert group.terminated


def test_of_a_group_only_the_run_that_has_begun_is_stopped_for_a_cancel(
    databases: Databases, requests: list[Request]
) -> None:
    group = Request(id="group-1", group=(new_id(), new_id()))
    state.active_requests.add(group)
    for run_id in group.group:
        running_row(databases, run_id)
    group.begun, waiting = group.group
    cancel(databases, waiting)
    keeper = LeaseKeeper(Yard().site, Worker())
    keeper.beat(databases)
    assert (status_of(databases, waiting), group.terminated) == ("RUNNING", False)
    cancel(databases, group.begun)
    keeper.beat(databases)
    assert (status_of(databases, group.begun), group.terminated) == ("CANCELLED", True)


def test_one_miss_and_an_answer_start_the_count_again(
    databases: Databases, requests: list[Request]
) -> None:
    request = requests[0]
    running_row(databases, request.id)
    keeper = LeaseKeeper(Yard().site, Worker())
    for owner in ("w@h:7", "other", "w@h:7", "other", "w@h:7"):
        set_owner(databases, request.id, owner)
        keeper.beat(databases)
    assert not request.terminated


@pytest.mark.parametrize("worker", [Worker(hub=None), Worker(pool=object())])
def test_a_thread_cannot_be_stopped(
    databases: Databases, requests: list[Request], worker: Worker
) -> None:
    running_row(databases, requests[0].id)
    keeper = LeaseKeeper(Yard().site, worker)
    keeper.beat(databases)
    set_owner(databases, requests[0].id, "other")
    for _ in range(3):
        keeper.beat(databases)
    assert not requests[0].terminated


def cancel(databases: Databases, run_id: str, at: str = "2001-01-01 00:00:00.000000") -> None:
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        statement = text("UPDATE task_runs SET cancel_requested_at = :at WHERE id = :id")
        connection.execute(statement, {"at": at, "id": run_id})


def status_of(databases: Databases, run_id: str) -> str:
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        statement = text("SELECT status FROM task_runs WHERE id = :id")
        return str(connection.execute(statement, {"id": run_id}).scalar_one())


def test_a_cancelled_run_past_its_grace_is_ended_and_stopped(
    databases: Databases, requests: list[Request]
) -> None:
    request = requests[0]
    running_row(databases, request.id)
    keeper = LeaseKeeper(Yard().site, Worker())
    cancel(databases, request.id, "2999-01-01 00:00:00.000000")
    keeper.beat(databases)
    assert (status_of(databases, request.id), request.terminated) == ("RUNNING", False)
    cancel(databases, request.id)
    keeper.beat(databases)
    assert (status_of(databases, request.id), request.terminated) == ("CANCELLED", True)


@pytest.mark.parametrize("can", [True, False])
def test_in_a_thread_only_a_coroutine_is_stopped(
    databases: Databases, requests: list[Request], can: bool
) -> None:
    request = requests[0]
    request.worker_pid = os.getpid()
    running_row(databases, request.id, f"w@h:{os.getpid()}")
    cancel(databases, request.id)
    yard = Yard()
    runtimes = Runtimes(yard.site, "w@h")
    runtimes.current()
    yard.execution.cancellable = frozenset({request.id} if can else ())
    try:
        LeaseKeeper(yard.site, Worker(), runtimes).beat(databases)
        # What was called from another thread runs when the loop does.
        yard.execution.coroutine = lambda: asyncio.sleep(0)
        runtimes.current().execute(Wakeup(request.id, "test.task", "default", 5))
        assert status_of(databases, request.id) == ("CANCELLED" if can else "RUNNING")
        assert yard.execution.cancelled == ([request.id] if can else [])
    finally:
        runtimes.close()


@pytest.mark.parametrize("is_supervised", [False, True])
def test_a_function_in_a_supervised_process_ends_with_it(
    databases: Databases,
    requests: list[Request],
    monkeypatch: pytest.MonkeyPatch,
    is_supervised: bool,
) -> None:
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: killed.append((pid, number)))
    request = requests[0]
    request.worker_pid = os.getpid()
    running_row(databases, request.id, f"w@h:{os.getpid()}")
    cancel(databases, request.id)
    site = replace(Yard().site, is_supervised=is_supervised)
    LeaseKeeper(site, Worker()).beat(databases)
    assert status_of(databases, request.id) == ("CANCELLED" if is_supervised else "RUNNING")
    assert killed == ([(os.getpid(), signal.SIGKILL)] if is_supervised else [])


def test_the_keeper_beats_until_it_is_stopped(
    databases: Databases, requests: list[Request], tmp_path: Path
) -> None:
    yard = Yard(settings=settings_on(tmp_path, TASKYARD_CELERY__HEARTBEAT_SECONDS="0.02"))
    running_row(databases, requests[0].id)
    keeper = LeaseKeeper(yard.site, Worker())
    keeper.start()
    for _ in range(500):
        if not lease_of(databases, requests[0].id).startswith("2001"):
            break
    keeper.stop()
    assert not lease_of(databases, requests[0].id).startswith("2001")
    assert not [thread for thread in threading.enumerate() if thread.name == "taskyard-leases"]


def test_a_database_that_is_away_does_not_end_the_keeper(tmp_path: Path) -> None:
    settings = settings_on(tmp_path, TASKYARD_CELERY__HEARTBEAT_SECONDS="0.01")
    request = Request()
    state.active_requests.add(request)
    keeper = LeaseKeeper(replace(Yard().site, settings=settings), Worker())
    keeper.start()
    threading.Event().wait(0.1)
    assert [thread for thread in threading.enumerate() if thread.name == "taskyard-leases"]
    keeper.stop()
    state.active_requests.clear()


def test_a_process_that_hangs_is_killed_and_one_that_ended_is_not() -> None:
    @dataclass
    class Job:
        ended: bool

        def ready(self) -> bool:
            return self.ended

    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    kill_if_running(Job(ended=True), process.pid)
    kill_if_running(None, process.pid)
    assert process.poll() is None
    kill_if_running(Job(ended=False), process.pid)
    assert process.wait(10) == -signal.SIGKILL
    kill_if_running(Job(ended=False), process.pid)


def test_a_fork_waits_for_the_end_of_a_beat() -> None:
    gate = ForkGate()
    order: list[str] = []
    inside, leave = threading.Event(), threading.Event()

    def beat() -> None:
        with gate:
            inside.set()
            leave.wait(10)
            order.append("beat ended")

    thread = threading.Thread(target=beat)
    thread.start()
    inside.wait(10)
    threading.Timer(0.05, leave.set).start()
    gate.before_fork()
    order.append("fork")
    gate.after_fork_in_parent()
    thread.join()
    assert order == ["beat ended", "fork"]
    with gate:
        order.append("open again")


def test_a_child_has_an_open_gate() -> None:
    gate = ForkGate()
    with gate:
        pid = os.fork()
        if pid == 0:
            gate.after_fork_in_child()
            with gate:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
