from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Reject

from app.celery_worker import celery_app, inproc
from app.celery_worker.celery_app import create_celery
from app.celery_worker.site import UNKNOWN_TASK
from app.celery_worker.worker import current_runtimes
from app.common.ids import new_id
from app.config import load_settings
from app.tasks.execution import Disposition
from tests.unit.celery_worker.stand_ins import StandInTransport, Yard

AMQP = "amqp://guest:guest@127.0.0.1:1//"


def make(yard: Yard, **environ: str) -> Celery:
    inproc.register()
    yard.settings = load_settings(environ=environ)
    return create_celery(
        yard.settings,
        ["test.task", "test.other"],
        queues=["reports"],
        services_factory=yard.make_services,
        execution_factory=lambda _services, _worker: yard.execution,
        sweeping_factory=lambda _services: yard.sweeping,
    )


def test_what_keeps_work_from_being_lost_is_set() -> None:
    conf = make(Yard(), TASKYARD_CELERY__BROKER_URL=AMQP).conf
    assert conf.task_acks_late
    assert conf.task_reject_on_worker_lost
    assert conf.worker_prefetch_multiplier == 1
    assert not conf.worker_cancel_long_running_tasks_on_connection_loss
    assert conf.broker_connection_max_retries is None
    assert conf.broker_transport_options["confirm_publish"]
    assert conf.accept_content == ["json"]
    assert not conf.task_create_missing_queues
    assert not conf.worker_hijack_root_logger
    assert conf.task_ignore_result
    assert conf.result_backend is None


def test_a_result_back_end_is_for_plain_tasks_only() -> None:
    app = make(
        Yard(),
        TASKYARD_CELERY__BROKER_URL=AMQP,
        TASKYARD_CELERY__RESULT_BACKEND="redis://127.0.0.1:1/0",
    )
    assert app.conf.result_backend == "redis://127.0.0.1:1/0"
    assert not app.conf.task_ignore_result
    assert app.tasks["test.task"].ignore_result


def test_each_registered_name_is_a_task() -> None:
    app = make(Yard())
    assert {"test.task", "test.other"} <= set(app.tasks)
    assert app.tasks["test.task"].acks_late
    assert app.tasks["test.task"].reject_on_worker_lost


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (None, 6),
        (["reports"], 3),
        (["reports", "default"], 6),
        (["default.high"], 1),
    ],
)
def test_queues_are_chosen_by_class(chosen: list[str] | None, expected: int) -> None:
    queues: Any = make(Yard()).amqp.queues
    queues.select(chosen)
    assert len(queues.consume_from) == expected
    if chosen == ["reports"]:
        assert sorted(queues.consume_from) == ["reports", "reports.high", "reports.low"]


def test_a_prefix_is_no_part_of_a_class() -> None:
    queues: Any = make(Yard(), TASKYARD_CELERY__QUEUE_PREFIX="p.").amqp.queues
    queues.select(["reports"])
    assert sorted(queues.consume_from) == ["p.reports", "p.reports.high", "p.reports.low"]


def test_an_unknown_class_is_refused() -> None:
    queues: Any = make(Yard()).amqp.queues
    with pytest.raises(KeyError):
        queues.select(["defualt"])


def test_a_task_runs_the_row_of_its_id_and_ignores_its_arguments() -> None:
    yard = Yard()
    app = make(yard)
    run_id = new_id()
    app.tasks["test.task"].apply(args=("forged",), kwargs={"text": "forged"}, task_id=run_id)
    assert yard.execution.runs == [run_id]
    current_runtimes(app).close()


def test_a_wake_up_for_a_task_without_code_keeps_its_name() -> None:
    yard = Yard()
    app = make(yard)
    run_id = new_id()
    task: Any = app.tasks[UNKNOWN_TASK]
    # As a worker does: each header of the message is an attribute of the request.
    task.push_request(id=run_id, function="test.gone")
    task.run()
    task.pop_request()
    assert yard.execution.unknown == [(run_id, "test.gone")]
    current_runtimes(app).close()


def test_an_unknown_run_is_rejected_for_good_and_an_unreachable_one_for_now() -> None:
    yard = Yard(transport=StandInTransport(confirms=False))
    app = make(yard)
    for answer, requeue in ((Disposition.UNKNOWN, False), (Disposition.LATER, True)):
        yard.execution.answer = answer
        result: Any = app.tasks["test.task"].apply(task_id=new_id())
        assert isinstance(result.result, Reject)
        assert vars(result.result)["requeue"] is requeue
    current_runtimes(app).close()


def test_the_module_offers_the_app_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_CELERY__BROKER_URL", AMQP)
    monkeypatch.setenv("TASKYARD_PLUGINS", "[]")
    celery_app.app_of_environment.cache_clear()
    assert celery_app.app is celery_app.celery_app
    assert celery_app.app.conf.broker_url == AMQP
    celery_app.app_of_environment.cache_clear()
    with pytest.raises(AttributeError):
        _ = celery_app.application


def test_the_in_process_broker_needs_a_process_that_said_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inproc, "_allowed", False)
    with pytest.raises(inproc.InprocOutsideOneProcess):
        create_celery(load_settings(environ={}), [])
    with pytest.raises(inproc.InprocOutsideOneProcess):
        celery_app.create_app(load_settings(environ={}))
