"""Why a run is not running, on both application databases."""

from collections.abc import Callable
from typing import Any

import pytest

from app import Retry, register_task
from app.common.ids import new_id
from app.tasks.errors import RunNotFound
from app.tasks.explaining import Reason
from app.tasks.transitions import CLAIM, apply
from tests.contract.tasks.test_limits import then
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


@register_task("test.plain_one", max_attempts=2)
async def plain_one(fails: bool = False, again: bool = False) -> None:
    """Succeed, fail or ask for another attempt."""
    if again:
        raise Retry(after=60)
    if fails:
        raise ValueError("broken")


@register_task("test.single_one", max_concurrency=1, concurrency_key="name")
async def single_one(name: str) -> None:
    """Do nothing."""


@register_task("test.rated_one", rate_limit="1/h")
async def rated_one() -> None:
    """Do nothing."""


def explain(yard: Installation, run_id: str, caller: Somebody | None = None) -> list[Reason]:
    told = yard.run(yard.services.explainer.explain(run_id, caller or Somebody()))
    assert told.task_id == run_id
    return told.reasons


def codes(yard: Installation, run_id: str) -> list[str]:
    return [reason.code for reason in explain(yard, run_id)]


def start(yard: Installation, run_id: str, seconds: float = 60.0) -> None:
    values = {"run_id": run_id, "worker": "w:1", "actor": "worker", "lease_seconds": seconds}
    if yard.row(run_id).limit_key is None:
        yard.run(apply(yard.services.databases, CLAIM, values))
    else:
        yard.run(yard.services.limiter.claim(yard.row(run_id), values))
    assert yard.row(run_id).status == "RUNNING"


def test_nothing_stands_in_its_way(install: Install) -> None:
    yard = install(plain_one)
    assert codes(yard, yard.submit("test.plain_one").task_id) == ["READY"]


def test_it_is_not_due(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one", options={"delay_seconds": 60}).task_id
    (reason,) = explain(yard, run_id)
    assert reason.code == "NOT_DUE"
    assert reason.detail["until"] in reason.message
    assert reason.detail["until"].endswith("Z")


def test_it_waits_for_its_next_attempt(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one", {"again": True}).task_id
    yard.deliver(run_id)
    (reason,) = explain(yard, run_id)
    assert reason.code == "WAITING_FOR_RETRY"
    assert (reason.detail["attempt"], reason.detail["error"]["type"]) == (1, "Retry")


def test_its_message_is_not_published(install: Install) -> None:
    yard = install(plain_one)
    yard.transport.confirms = False
    run_id = yard.submit("test.plain_one").task_id
    assert codes(yard, run_id) == ["BROKER_UNREACHABLE", "NOT_PUBLISHED"]
    yard.transport.confirms = True
    assert codes(yard, run_id) == ["NOT_PUBLISHED"]


def test_nobody_consumes(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one", options={"queue": "slow"}).task_id
    yard.transport.consumers = 0
    (reason,) = explain(yard, run_id)
    assert (reason.code, reason.detail) == ("NO_CONSUMER", {"queue": "slow"})


def test_its_queue_is_paused(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one").task_id
    theirs = yard.submit("test.plain_one", caller=Somebody("eve", tenant="acme")).task_id
    yard.run(yard.services.queues.pause("default", Somebody("ada"), reason="secret plans"))
    reason = explain(yard, run_id)[0]
    assert reason.code == "QUEUE_PAUSED"
    assert (reason.detail["by"], reason.detail["reason"]) == ("ada", "secret plans")
    reason = explain(yard, theirs, Somebody("eve", tenant="acme"))[0]
    assert reason.code == "QUEUE_PAUSED"
    assert reason.detail.keys() == {"queue", "since"}


def test_others_are_before_it(install: Install) -> None:
    yard = install(plain_one)
    yard.submit("test.plain_one", options={"priority": 0})
    yard.submit("test.plain_one", options={"queue": "slow"})
    yard.submit("test.plain_one", options={"delay_seconds": 60})
    yard.submit("test.plain_one", caller=Somebody("eve", tenant="acme"))
    run_id = yard.submit("test.plain_one").task_id
    yard.submit("test.plain_one", options={"priority": 9})
    yard.submit("test.plain_one")
    (reason,) = explain(yard, run_id)
    # The older one of another tenant and the younger urgent one.
    assert (reason.code, reason.detail["count"]) == ("BEHIND_OTHERS", 2)


def test_its_limit_is_full_and_who_holds_it(install: Install) -> None:
    yard = install(single_one)
    holder, older, run_id = (
        yard.submit("test.single_one", {"name": "a"}).task_id for _ in range(3)
    )
    start(yard, holder)
    yard.deliver(older)
    yard.deliver(run_id)
    (reason,) = explain(yard, run_id)
    assert reason.code == "CONCURRENCY_FULL"
    assert reason.detail == {
        "limit_key": "test.single_one:a",
        "max_concurrency": 1,
        "running": 1,
        "ahead": 1,
        "holders": [holder],
    }


def test_holders_of_another_tenant_are_a_number(install: Install) -> None:
    yard = install(single_one)
    eve = Somebody("eve", tenant="acme")
    start(yard, yard.submit("test.single_one", {"name": "a"}, caller=Somebody()).task_id)
    run_id = yard.submit("test.single_one", {"name": "a"}, caller=eve).task_id
    (reason,) = [one for one in explain(yard, run_id, eve) if one.code == "CONCURRENCY_FULL"]
    assert (reason.detail["running"], reason.detail["holders"]) == (1, [])


def test_its_rate_is_used_up(install: Install) -> None:
    yard = install(rated_one)
    first, second = (yard.submit("test.rated_one").task_id for _ in range(2))
    yard.deliver(first)
    yard.deliver(second)
    (reason,) = explain(yard, second)
    assert (reason.code, reason.detail["interval_seconds"]) == ("RATE_LIMITED", 3600)


def test_it_runs_and_somebody_wants_it_to_stop(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one").task_id
    start(yard, run_id)
    (reason,) = explain(yard, run_id)
    assert (reason.code, reason.detail["worker"]) == ("RUNNING", "w:1")
    yard.run(yard.services.runs.cancel(run_id, Somebody()))
    assert codes(yard, run_id) == ["CANCEL_REQUESTED", "RUNNING"]
    yard.lose_lease(run_id)
    assert codes(yard, run_id) == ["WORKER_SILENT"]


def test_it_was_dead_lettered(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one", {"fails": True}, options={"max_attempts": 1}).task_id
    yard.deliver(run_id)
    (reason,) = explain(yard, run_id)
    assert reason.code == "DEAD_LETTERED"
    assert reason.detail["dead_letter_id"] == yard.row(run_id).dead_letter_id
    assert reason.detail["error"]["message"] == "broken"


def test_it_has_ended_or_expired(install: Install) -> None:
    yard = install(plain_one)
    run_id = yard.submit("test.plain_one").task_id
    late = yard.submit("test.plain_one").task_id
    yard.deliver(run_id)
    assert codes(yard, run_id) == ["ENDED"]
    yard.sql("UPDATE task_runs SET expires_at = :then WHERE status = 'PENDING'", then=then(yard))
    assert codes(yard, late)[0] == "EXPIRED"
    yard.deliver(late)
    assert (yard.row(late).status, codes(yard, late)) == ("EXPIRED", ["EXPIRED"])


def test_nobody_has_its_code(install: Install) -> None:
    run_id = install(plain_one).submit("test.plain_one").task_id
    (reason, *_) = explain(install(rated_one), run_id)
    assert (reason.code, reason.detail) == ("TASK_NOT_REGISTERED", {"task": "test.plain_one"})


@pytest.mark.parametrize("kind", ["unknown", "foreign", "no id"])
def test_what_the_caller_may_not_see_is_not_there(install: Install, kind: str) -> None:
    yard = install(plain_one)
    own: dict[str, Any] = {"caller": Somebody("eve", tenant="acme")}
    ids = {
        "unknown": new_id(),
        "foreign": yard.submit("test.plain_one", **own).task_id,
        "no id": "x",
    }
    with pytest.raises(RunNotFound):
        explain(yard, ids[kind])
