"""`taskyard workers` against a service that answers as it is told."""

from typing import Any

from tests.unit.cli.commands import RunCommand
from tests.unit.cli.fake_service import Answer, FakeService, problem

WORKER: dict[str, Any] = {
    "name": "worker-7@node3",
    "queues": ["default"],
    "concurrency": 2,
    "active": 1,
    "alive": True,
    "started_at": "2026-01-31T00:00:00.000000Z",
    "seen_at": "2026-01-31T00:00:05.000000Z",
    "draining": False,
    "drained_at": None,
    "drained_by": None,
    "drain_reason": None,
}
PATH = "/workers/worker-7%40node3"


def test_list_shows_who_is_there(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/workers", Answer({"items": [WORKER], "next_cursor": None}))
    _, row = taskyard("workers", "list", "-o", "table").out.splitlines()
    assert row.split()[:5] == ["worker-7@node3", "yes", "no", "1", "2"]
    assert taskyard("workers", "list").document == [WORKER]


def test_drain_and_resume_tell_why(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", f"{PATH}/drain", Answer({**WORKER, "draining": True}))
    service.answer("POST", f"{PATH}/resume", Answer(WORKER))
    drained = taskyard("workers", "drain", "worker-7@node3", "--reason", "a new disk").document
    assert drained["draining"] is True
    assert taskyard("workers", "resume", "worker-7@node3").document["draining"] is False
    assert [one.document for one in service.received] == [
        {"reason": "a new disk"},
        {"reason": None},
    ]


def test_an_unknown_worker_ends_with_3(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", "/workers/x/drain", problem(404, "WORKER_NOT_FOUND", "No such worker."))
    ended = taskyard("workers", "drain", "x")
    assert ended.code == 3
    assert "taskyard workers list" in ended.err
