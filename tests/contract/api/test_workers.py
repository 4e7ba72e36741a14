"""The routes of workers."""

from collections.abc import Iterator
from typing import Any

import pytest

from app.db import Databases
from app.tasks.workers import WorkerFacts, announce, leave
from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import assert_problem

BASE = "/api/v1/workers"
NAME = "worker-7@node 3"
PATH = f"{BASE}/worker-7@node%203"
FIELDS = {
    "name",
    "queues",
    "concurrency",
    "active",
    "alive",
    "started_at",
    "seen_at",
    "draining",
    "drained_at",
    "drained_by",
    "drain_reason",
}


@pytest.fixture(autouse=True)
def _worker(api: Api) -> Iterator[None]:
    databases = Databases(api.settings.databases)
    facts = WorkerFacts(name=NAME, queues=("default",), concurrency=2, active=1)
    announce(databases, facts, is_new=True)
    yield
    leave(databases, facts.name)
    databases.dispose_sync()


def listed(api: Api, role: str = "viewer") -> dict[str, Any]:
    (item,) = api.get(BASE, role).json()["items"]
    return dict(item)


def test_every_worker_is_listed(api: Api) -> None:
    item = listed(api)
    assert set(item) == FIELDS
    assert (item["queues"], item["concurrency"], item["active"]) == (["default"], 2, 1)
    assert (item["alive"], item["draining"]) == (True, False)
    assert item["seen_at"].endswith("Z")


def test_a_drain_is_shown_until_it_ends(api: Api) -> None:
    drained = api.post(f"{PATH}/drain", json={"reason": "a new disk"}).json()
    assert (drained["draining"], drained["drain_reason"]) == (True, "a new disk")
    assert drained["drained_at"].endswith("Z")
    assert listed(api)["drained_by"] == drained["drained_by"] is not None
    resumed = api.post(f"{PATH}/resume").json()
    assert (resumed["draining"], resumed["drained_at"], resumed["drained_by"]) == (
        False,
        None,
        None,
    )


def test_a_tenant_sees_the_drain_and_not_who_made_it(api: Api) -> None:
    api.post(f"{PATH}/drain", json={"reason": "secret"})
    item = listed(api, "foreigner")
    assert (item["draining"], item["drained_by"], item["drain_reason"]) == (True, None, None)


def test_who_may_not_change_a_worker(api: Api) -> None:
    for verb in ("drain", "resume"):
        assert_problem(api.post(f"{PATH}/{verb}", "viewer"), 403)
        assert_problem(api.post(f"{PATH}/{verb}", "foreigner"), 403)
    assert not listed(api)["draining"]


@pytest.mark.parametrize("body", [{"reason": ""}, {"reason": 1}, {"why": "x"}, []])
def test_a_wrong_body_changes_nothing(api: Api, body: object) -> None:
    assert_problem(api.post(f"{PATH}/drain", json=body), 422)
    assert not listed(api)["draining"]


def test_an_unknown_worker_is_404(api: Api) -> None:
    answer = api.post(f"{BASE}/nobody/drain")
    assert_problem(answer, 404)
    assert answer.json()["code"] == "WORKER_NOT_FOUND"
