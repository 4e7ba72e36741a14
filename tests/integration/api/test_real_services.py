"""The contract's cases once more, on Postgres, MariaDB and Redis."""

from concurrent.futures import ThreadPoolExecutor

from tests.contract.api.harness import Api
from tests.contract.api.test_registry import name, test_a_derived_task_is_usable_at_once
from tests.contract.api.test_runs import (
    RUN,
    TestCancel,
    TestIdempotency,
    TestList,
    TestResult,
    TestRun,
    TestRunTask,
)

__all__ = [
    "TestCancel",
    "TestIdempotency",
    "TestList",
    "TestResult",
    "TestRun",
    "TestRunTask",
    "name",
    "test_a_derived_task_is_usable_at_once",
]


def test_every_service_is_well(api: Api) -> None:
    report = api.get("/api/v1/health", role=None).json()
    assert report["status"] == "ok", report


def test_parallel_requests_with_one_key_make_one_run(api: Api) -> None:
    def submit(_: int) -> tuple[int, str]:
        headers = {"Idempotency-Key": "parallel"}
        body = {"task": "sample.add_numbers", "params": {"a": 1}}
        answer = api.post(RUN, json=body, headers=headers)
        return answer.status_code, answer.json()["task_id"]

    with ThreadPoolExecutor(10) as pool:
        answers = set(pool.map(submit, range(30)))
    ((status, _),) = answers
    assert status == 202
