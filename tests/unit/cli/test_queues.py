"""`taskyard queues` and `taskyard runs explain` against a service that answers as it is told."""

from typing import Any

from tests.unit.cli.commands import RunCommand
from tests.unit.cli.fake_service import Answer, FakeService, problem

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
QUEUE: dict[str, Any] = {
    "name": "default",
    "paused": True,
    "consumers": 2,
    "ready": 3,
    "unacknowledged": 1,
    "delayed": 0,
    "dead": 4,
    "oldest_age_seconds": 1.5,
    "paused_at": "2026-01-31T00:00:00.000000Z",
    "paused_by": "ada",
    "pause_reason": "stock-taking",
}


def test_list_shows_the_levels(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/queues", Answer({"items": [QUEUE], "next_cursor": None}))
    _, row = taskyard("queues", "list", "-o", "table").out.splitlines()
    assert row.split() == ["default", "yes", "2", "3", "1", "0", "4", "1.5"]
    assert taskyard("queues", "list").document == [QUEUE]


def test_pause_and_resume_tell_why(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", "/queues/default/pause", Answer(QUEUE))
    service.answer("POST", "/queues/default/resume", Answer({**QUEUE, "paused": False}))
    paused = taskyard("queues", "pause", "default", "--reason", "stock-taking").document
    assert paused["paused"] is True
    assert taskyard("queues", "resume", "default").document["paused"] is False
    assert [one.document for one in service.received] == [
        {"reason": "stock-taking"},
        {"reason": None},
    ]


def test_an_unknown_queue_ends_with_3(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", "/queues/x/pause", problem(404, "QUEUE_NOT_FOUND", "No such queue."))
    ended = taskyard("queues", "pause", "x")
    assert ended.code == 3
    assert "taskyard queues list" in ended.err


def test_explain_prints_the_reasons(service: FakeService, taskyard: RunCommand) -> None:
    told = {
        "task_id": ID,
        "status": "PENDING",
        "reasons": [{"code": "QUEUE_PAUSED", "message": "The queue is paused.", "detail": {}}],
    }
    service.answer("GET", f"/tasks/{ID}/explain", Answer(told))
    assert taskyard("runs", "explain", ID).document == told
    shown = taskyard("runs", "explain", ID, "-o", "table").out
    assert "PENDING" in shown
    assert "QUEUE_PAUSED  The queue is paused." in shown


def test_explain_of_what_is_no_id_asks_nobody(service: FakeService, taskyard: RunCommand) -> None:
    assert taskyard("runs", "explain", "registered").code == 3
    assert service.received == []
