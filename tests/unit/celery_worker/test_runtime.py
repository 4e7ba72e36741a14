import asyncio
import threading
from typing import Any

import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from app.celery_worker.runtime import Runtime, Runtimes, execution_on
from app.common.ids import new_id
from app.common.tracing import current_trace_id
from app.tasks.execution import Disposition, Executor
from app.tasks.plain_calls import PlainCall
from app.tasks.transport import Wakeup
from tests.unit.celery_worker.stand_ins import (
    StandInExecution,
    StandInServices,
    StandInTransport,
    Yard,
)


def wakeup(**fields: Any) -> Wakeup:
    return Wakeup(**{"run_id": new_id(), "function": "test.task", "queue": "default", **fields})


def test_a_delivery_runs_inside_the_messages_trace() -> None:
    yard = Yard()
    runtime = Runtime(yard.site, "w@h")
    traced = wakeup(traceparent=f"00-{'a' * 32}-{'b' * 16}-01")
    assert runtime.execute(traced) is Disposition.DONE
    assert runtime.execute(wakeup(traceparent="nonsense")) is Disposition.DONE
    assert yard.execution.runs[0] == traced.run_id
    assert yard.execution.traces[0] == "a" * 32
    assert yard.execution.traces[1] not in {None, "a" * 32}
    assert current_trace_id() is None
    runtime.close()
    assert yard.services[0].closed


def test_a_delivery_of_an_unknown_task_is_told_as_one() -> None:
    yard = Yard()
    runtime = Runtime(yard.site, "w@h")
    runtime.execute(wakeup())
    stranger = wakeup(function="test.gone")
    runtime.execute(stranger)
    assert yard.execution.unknown == [(stranger.run_id, "test.gone")]
    runtime.close()


def test_a_plain_producers_call_is_accepted_in_its_own_trace() -> None:
    yard = Yard()
    runtime = Runtime(yard.site, "w@h")
    message = wakeup()
    call = PlainCall(run_id=message.run_id, task="test.task", trace_id="c" * 32)
    assert runtime.execute(message, call) is Disposition.DONE
    assert yard.execution.calls == [call]
    assert yard.execution.traces == ["c" * 32]
    runtime.close()


@pytest.mark.parametrize("answer", [Disposition.DONE, Disposition.UNKNOWN])
def test_what_becomes_of_the_message_is_passed_on(answer: Disposition) -> None:
    yard = Yard()
    yard.execution.answer = answer
    runtime = Runtime(yard.site, "w@h")
    assert runtime.execute(wakeup()) is answer
    runtime.close()


def test_a_message_that_cannot_be_asked_about_goes_round_again() -> None:
    transport = StandInTransport()
    yard = Yard(transport=transport)
    yard.execution.answer = Disposition.LATER
    runtime = Runtime(yard.site, "w@h")
    message = wakeup(priority=8, timeout_seconds=7.0)
    assert runtime.execute(message) is Disposition.DONE
    (again,) = transport.sent
    assert again.delay_seconds > 0
    assert (again.run_id, again.priority, again.timeout_seconds) == (message.run_id, 8, 7.0)
    transport.confirms = False
    assert runtime.execute(wakeup()) is Disposition.LATER
    runtime.close()


def test_of_a_group_only_what_cannot_be_asked_about_goes_round_again() -> None:
    transport = StandInTransport()
    yard = Yard(transport=transport)
    late, other = wakeup(priority=9), wakeup()
    answers = {late.run_id: Disposition.LATER, other.run_id: Disposition.UNKNOWN}

    class Execution(StandInExecution):
        def execute(self, runner: asyncio.Runner, run_id: str) -> Disposition:
            return answers[run_id]

    yard.execution = Execution()
    runtime = Runtime(yard.site, "w@h")
    assert runtime.execute_many([other, late]) == [Disposition.UNKNOWN, Disposition.DONE]
    (sent,) = transport.sent
    assert (sent.run_id, sent.priority, sent.delay_seconds) == (late.run_id, 9, 5.0)
    transport.confirms = False
    assert runtime.execute_many([late, other]) == [Disposition.LATER, Disposition.UNKNOWN]
    runtime.close()


def test_a_time_limit_outside_the_tasks_of_a_group_breaks_it_off() -> None:
    yard = Yard()
    yard.execution.answer = SoftTimeLimitExceeded()
    runtime = Runtime(yard.site, "w@h")
    with pytest.raises(SoftTimeLimitExceeded):
        runtime.execute_many([wakeup()])
    runtime.close()


def test_a_time_limit_outside_the_task_leaves_nothing_on_the_loop() -> None:
    yard = Yard()
    left: list[asyncio.Task[None]] = []

    async def leave_something() -> None:
        left.append(asyncio.get_running_loop().create_task(asyncio.sleep(60)))

    yard.execution.coroutine = leave_something
    yard.execution.answer = SoftTimeLimitExceeded()
    runtime = Runtime(yard.site, "w@h")
    assert runtime.execute(wakeup()) is Disposition.DONE
    assert left[0].cancelled()
    runtime.close()


def test_each_thread_has_its_own_runtime() -> None:
    runtimes = Runtimes(Yard().site, "w@h")
    here = runtimes.current()
    there: list[Runtime] = []
    thread = threading.Thread(target=lambda: there.append(runtimes.current()))
    thread.start()
    thread.join()
    assert runtimes.current() is here
    assert there[0] is not here
    runtimes.close()
    assert runtimes.current() is not here
    runtimes.close()


def test_a_stop_cancels_what_runs_and_nothing_later() -> None:
    yard = Yard()
    started = threading.Event()
    cancelled = threading.Event()

    async def wait() -> None:
        started.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()

    yard.execution.coroutine = wait
    runtimes = Runtimes(yard.site, "w@h")
    thread = threading.Thread(target=lambda: runtimes.current().execute(wakeup()))
    thread.start()
    assert started.wait(10)
    runtimes.cancel()
    thread.join(10)
    assert cancelled.is_set()
    # Nothing runs now: this must not reach the closing of the services.
    runtimes.cancel()
    runtimes.close()
    assert all(services.closed for services in yard.services)


def test_one_runtime_that_cannot_close_does_not_keep_the_others_open() -> None:
    class Stubborn(StandInTransport):
        async def close(self) -> None:
            raise OSError("no")

    yard = Yard(transport=Stubborn())
    runtimes = Runtimes(yard.site, "w@h")
    runtimes.current()
    runtimes.close()
    assert yard.services[0].closed


def test_the_products_executor_takes_the_pools_time_limit_for_an_outcome() -> None:
    services: Any = StandInServices(StandInTransport())
    assert isinstance(execution_on(services, "w@h"), Executor)
