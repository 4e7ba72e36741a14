"""Which messages go together, and what becomes of each after its group."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
from celery.worker import state
from kombu.asynchronous.semaphore import LaxBoundedSemaphore

from app.celery_worker.begun import BEGUN
from app.celery_worker.celery_app import QueueConsumer
from app.celery_worker.groups import Group, Grouping, InlineGrouping, grouping_of
from app.celery_worker.plain_calls import HEADER
from app.celery_worker.site import UNKNOWN_TASK
from app.celery_worker.slots import put_urgent_first
from app.common.ids import new_id
from app.config import load_settings
from app.tasks.execution import PATIENCE_SECONDS, Disposition
from tests.unit.celery_worker.stand_ins import Yard

SIZE = 3
PID = 4_000_001


@dataclass(eq=False)
class Message:
    """A cleaned message."""

    run_id: str = field(default_factory=new_id)
    queue: str = "default"
    task: str = "test.task"
    limits: tuple[float | None, float | None] = (None, None)
    more: dict[str, Any] = field(default_factory=dict)
    channel: Any = field(default_factory=lambda: SimpleNamespace(is_open=True))
    told: list[str] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, Any]:
        known = {"task": self.task, "id": self.run_id, "timelimit": list(self.limits)}
        return known | self.more

    @property
    def delivery_info(self) -> dict[str, Any]:
        return {"routing_key": self.queue}

    def ack_log_error(self, *_: Any) -> None:
        self.told.append("ack")

    def reject_log_error(self, *_: Any, requeue: bool) -> None:
        self.told.append("requeue" if requeue else "reject")


class Job:
    """What the pool answers with."""


@dataclass
class Pool:
    """Keeps the jobs; `is_closing` as one that takes none."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    is_closing: bool = False
    uses_semaphore: bool = True

    def apply_async(self, target: Any, args: Any, **options: Any) -> Any:
        if self.is_closing:
            return None
        self.jobs.append({"runs": [wakeup.run_id for wakeup in args[0]], **options})
        return Job()


class Worker:
    def __init__(self, slots: int = 1, *, uses_semaphore: bool = True) -> None:
        self.hostname = "w@h"
        self.hub: Any = None
        self.consumer: Any = None
        self.pool: Any = Pool(uses_semaphore=uses_semaphore)
        self.app = SimpleNamespace(tasks={"test.task": object()})
        self.semaphore = LaxBoundedSemaphore(slots)
        put_urgent_first(self, 0)


@pytest.fixture
def worker() -> Iterator[Worker]:
    yield Worker()
    state.active_requests.clear()


@pytest.fixture
def grouping(worker: Worker) -> Grouping:
    settings = load_settings(environ={"TASKYARD_CELERY__TINY_QUEUES": f'{{"default": {SIZE}}}'})
    found = grouping_of(Yard(settings=settings).site, worker)
    assert found is not None
    return found


def take(grouping: Grouping, *messages: Message) -> list[str]:
    assert all(grouping.take(message) for message in messages)
    return [message.run_id for message in messages]


def finish(worker: Worker, *answers: Disposition) -> None:
    """End the oldest job as the pool does: the slot comes back first."""
    job = worker.pool.jobs.pop(0)
    job["accept_callback"](PID, 0.0)
    worker.semaphore.release()
    job["callback"](list(answers))


def runs_of(worker: Worker) -> list[list[str]]:
    return [job["runs"] for job in worker.pool.jobs]


def test_the_first_goes_at_once_and_what_waited_goes_together(
    worker: Worker, grouping: Grouping
) -> None:
    first, *rest = take(grouping, *(Message() for _ in range(6)))
    assert runs_of(worker) == [[first]]
    finish(worker, Disposition.DONE)
    assert runs_of(worker) == [rest[:SIZE]]
    finish(worker, *[Disposition.DONE] * SIZE)
    assert runs_of(worker) == [rest[SIZE:]]


def test_only_messages_of_one_queue_and_one_limit_go_together(
    worker: Worker, grouping: Grouping
) -> None:
    kinds = [("default", None), ("default.low", None), ("default", 5.0), ("default", None)]
    ids = take(
        grouping, Message(), *(Message(queue=queue, limits=(None, soft)) for queue, soft in kinds)
    )
    finish(worker, Disposition.DONE)
    assert runs_of(worker) == [[ids[1], ids[4]]]


def test_a_group_has_the_limit_of_its_runs_and_the_time_in_which_they_begin(
    worker: Worker, grouping: Grouping
) -> None:
    take(grouping, *(Message(limits=(12.0, 2.0)) for _ in range(3)))
    assert worker.pool.jobs[0]["soft_timeout"] == 2.0
    finish(worker, Disposition.DONE)
    (job,) = worker.pool.jobs
    assert job["soft_timeout"] == 2.0 + PATIENCE_SECONDS
    assert job["timeout"] == 12.0 + PATIENCE_SECONDS


def test_each_message_gets_its_own_answer(worker: Worker, grouping: Grouping) -> None:
    messages = [Message() for _ in range(4)]
    take(grouping, *messages)
    finish(worker, Disposition.DONE)
    finish(worker, Disposition.DONE, Disposition.UNKNOWN, Disposition.LATER)
    assert [message.told for message in messages] == [["ack"], ["ack"], ["reject"], ["requeue"]]


def test_what_was_not_begun_waits_again(worker: Worker, grouping: Grouping) -> None:
    messages = [Message() for _ in range(4)]
    ids = take(grouping, *messages)
    finish(worker, Disposition.DONE)
    finish(worker, Disposition.DONE, Disposition.AGAIN, Disposition.AGAIN)
    finish(worker, Disposition.DONE)
    assert runs_of(worker) == [[ids[3]]]
    assert [message.told for message in messages[2:]] == [["ack"], []]


def test_after_its_connection_a_message_gets_no_answer(worker: Worker, grouping: Grouping) -> None:
    messages = [Message() for _ in range(4)]
    take(grouping, *messages)
    finish(worker, Disposition.DONE)
    for message in messages:
        message.channel.is_open = False
    finish(worker, Disposition.DONE, Disposition.AGAIN, Disposition.UNKNOWN)
    assert [message.told for message in messages[1:]] == [[]] * 3
    assert worker.pool.jobs == []


def test_a_group_is_a_request_while_it_runs(worker: Worker, grouping: Grouping) -> None:
    take(grouping, *(Message() for _ in range(3)))
    finish(worker, Disposition.DONE)
    (job,) = worker.pool.jobs
    job["accept_callback"](PID, 0.0)
    (group,) = state.active_requests
    assert (group.worker_pid, group.is_elsewhere) == (PID, True)
    assert list(group.run_ids) == job["runs"] == group.info()["runs"]
    assert group.begun is None
    job["callback"]([Disposition.DONE] * 2)
    assert not state.active_requests


@pytest.mark.parametrize("stopped", [False, True])
def test_a_broken_group_is_recorded_and_comes_again(
    worker: Worker, grouping: Grouping, stopped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [Message() for _ in range(3)]
    take(grouping, *messages)
    finish(worker, Disposition.DONE)
    (job,) = worker.pool.jobs
    job["accept_callback"](PID, 0.0)
    (group,) = state.active_requests
    recorded: list[Exception] = []
    group.record = recorded.append
    group.stopped_by_us = stopped
    monkeypatch.setattr(BEGUN, "of", {PID: messages[1].run_id}.get)
    assert group.begun == messages[1].run_id
    job["error_callback"](SimpleNamespace(exception=ValueError("the runtime's own")))
    assert "ValueError" in str(recorded[0])
    assert [message.told for message in messages[1:]] == [["requeue"]] * 2


def test_a_pool_that_closes_leaves_the_messages_to_the_broker(
    worker: Worker, grouping: Grouping
) -> None:
    worker.pool.is_closing = True
    message = Message()
    assert grouping.take(message)
    assert message.told == []


@pytest.mark.parametrize(
    "message",
    [
        Message(queue="slow"),
        Message(task=UNKNOWN_TASK),
        Message(task="plain.task"),
        Message(more={HEADER: {"args": []}}),
    ],
    ids=["another queue", "a task without code", "a plain task", "a plain call"],
)
def test_other_messages_take_the_old_way(
    worker: Worker, grouping: Grouping, message: Message
) -> None:
    assert not grouping.take(message)
    assert worker.pool.jobs == []


def test_without_tiny_queues_or_processes_nothing_is_grouped(worker: Worker) -> None:
    settings = load_settings(environ={"TASKYARD_CELERY__TINY_QUEUES": '{"default": 2}'})
    assert grouping_of(Yard().site, worker) is None
    assert grouping_of(Yard(settings=settings).site, Worker(uses_semaphore=False)) is None


class Connection:
    """Has messages that have arrived, and hands one over each time that it is asked."""

    def __init__(self, grouping: Grouping, messages: list[Message]) -> None:
        self._grouping = grouping
        self._messages = messages

    def drain_events(self, timeout: float) -> None:
        assert timeout == 0
        if not self._messages:
            raise TimeoutError
        assert self._grouping.take(self._messages.pop(0))


class Hub:
    """Calls when it is told to, and counts how often it was woken."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.woken = 0
        self._waker = self

    def call_soon(self, call: Any) -> None:
        self.calls.append(call)

    def wake(self) -> None:
        self.woken += 1

    def turn(self) -> None:
        calls, self.calls = self.calls, []
        for call in calls:
            call()


class Inline(Pool):
    """Runs a job at once, as a pool that is the process itself."""

    error: Exception | None = None

    def apply_async(self, target: Any, args: Any, **options: Any) -> Any:
        super().apply_async(target, args, **options)
        options["accept_callback"](PID, 0.0)
        if self.error is not None:
            raise self.error
        options["callback"]([Disposition.DONE] * len(args[0]))
        return None


@pytest.fixture
def inline(worker: Worker) -> Grouping:
    settings = load_settings(environ={"TASKYARD_CELERY__TINY_QUEUES": f'{{"default": {SIZE}}}'})
    worker.pool, worker.hub = Inline(), Hub()
    found = grouping_of(replace(Yard(settings=settings).site, is_supervised=True), worker)
    assert isinstance(found, InlineGrouping)
    return found


def arrive(worker: Worker, grouping: Grouping, *messages: Message) -> None:
    worker.consumer = SimpleNamespace(connection=Connection(grouping, list(messages)))


def test_inline_what_has_arrived_goes_together(worker: Worker, inline: Grouping) -> None:
    messages = [Message() for _ in range(5)]
    arrive(worker, inline, *messages[1:])
    assert inline.take(messages[0])
    assert runs_of(worker) == []
    worker.hub.turn()
    ids = [message.run_id for message in messages]
    assert runs_of(worker) == [ids[:SIZE]]
    assert [message.told for message in messages[:SIZE]] == [["ack"]] * SIZE
    assert worker.hub.calls == []
    # The loop's own reading brings the next one.
    assert inline.take(messages[3])
    arrive(worker, inline, messages[4])
    worker.hub.turn()
    assert runs_of(worker) == [ids[:SIZE], ids[SIZE:]]
    assert worker.hub.woken == 2


def test_inline_what_is_left_goes_on_without_a_new_message(
    worker: Worker, inline: Grouping
) -> None:
    arrive(worker, inline)
    take(inline, *(Message() for _ in range(SIZE + 1)))
    worker.hub.turn()
    worker.hub.turn()
    assert [len(runs) for runs in runs_of(worker)] == [SIZE, 1]
    assert worker.hub.woken == 2


def test_inline_a_group_that_breaks_comes_again(
    worker: Worker, inline: Grouping, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[Exception] = []
    monkeypatch.setattr(Group, "record", lambda _, error: recorded.append(error))
    worker.pool.error = ValueError("the runtime's own")
    message = Message()
    arrive(worker, inline)
    assert inline.take(message)
    worker.hub.turn()
    assert message.told == ["requeue"]
    assert len(recorded) == 1


def test_inline_what_a_broken_connection_has_taken_is_not_missed(
    worker: Worker, inline: Grouping
) -> None:
    arrive(worker, inline)
    assert inline.take(Message())
    worker.semaphore.clear()
    worker.hub.turn()
    assert runs_of(worker) == []


def test_a_tiny_queue_has_a_prefetch_count_of_its_own() -> None:
    told: list[Any] = []

    class Channel:
        def basic_qos(self, _size: int, count: int, is_global: bool) -> None:
            assert not is_global
            told.append(count)

    def consumes(name: str) -> Any:
        def consume(*_: Any, **__: Any) -> None:
            told.append(name)

        return SimpleNamespace(name=name, no_ack=False, consume=consume)

    consumer: Any = QueueConsumer.__new__(QueueConsumer)
    consumer.channel, consumer._active_tags = Channel(), {}  # noqa: SLF001 - kombu's own
    consumer._active_queue_no_ack, consumer._tags = {}, iter("abc")  # noqa: SLF001 - as above
    consumer.tag_prefix = ""
    consumer.prefetch, consumer.prefetch_elsewhere = {"tiny": 128}, 2
    for name in ("other", "tiny", "another"):
        consumer._basic_consume(consumes(name))  # noqa: SLF001 - as above
    assert told == ["other", 128, "tiny", 2, "another"]
