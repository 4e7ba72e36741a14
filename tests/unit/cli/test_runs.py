"""`taskyard runs` against a service that answers as it is told."""

import pytest

from tests.unit.cli.commands import RunCommand
from tests.unit.cli.fake_service import Answer, FakeService, problem

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
RUN = {
    "task_id": ID,
    "task": "text.count_words",
    "status": "SUCCEEDED",
    "attempt": 1,
    "max_attempts": 1,
    "queue": "default",
    "created_at": "2026-01-31T00:00:00.000000Z",
    "result": {"words": 2},
    "links": {"self": f"/api/v1/tasks/{ID}"},
}
LINE = {"at": "2026-01-31T00:00:00.5Z", "attempt": 1, "level": "info", "message": "Hello"}


def page(count: int, cursor: str | None) -> Answer:
    return Answer({"items": [RUN] * count, "next_cursor": cursor})


def test_list_sends_its_filters(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/tasks", page(1, None))
    ended = taskyard(
        *("runs", "list", "--status", "failed", "--status", "EXPIRED", "--task", "x.y"),
        *("--queue", "lint", "--label", "job=a=b", "--label", "x=", "--limit", "7"),
    )
    assert ended.document == [RUN]
    assert service.received[0].query == [
        ("status", "FAILED"),
        ("status", "EXPIRED"),
        ("task", "x.y"),
        ("queue", "lint"),
        ("label.job", "a=b"),
        ("label.x", ""),
        ("limit", "7"),
    ]


def test_list_follows_the_pages_up_to_the_limit(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/tasks", page(200, "c1"), page(50, "c2"))
    assert len(taskyard("runs", "list", "--limit", "230").document) == 230
    assert [dict(one.query) for one in service.received] == [
        {"limit": "200"},
        {"limit": "30", "cursor": "c1"},
    ]


def test_list_ends_with_the_last_page(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/tasks", page(3, None))
    assert len(taskyard("runs", "list", "-o", "jsonl").out.splitlines()) == 3
    assert len(service.received) == 1


def test_list_as_a_table(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/tasks", page(1, None))
    head, row = taskyard("runs", "list", "-o", "table").out.splitlines()
    assert head.split() == ["task", "id", "task", "status", "attempt", "queue", "created", "at"]
    assert row.split()[:3] == [ID, "text.count_words", "SUCCEEDED"]


@pytest.mark.parametrize("arguments", [("--label", "x"), ("--label", "=x"), ("--limit", "0")])
def test_a_wrong_filter_is_a_usage_error(arguments: tuple[str, ...], taskyard: RunCommand) -> None:
    assert taskyard("runs", "list", *arguments).code == 2


def test_show_prints_the_run_as_it_came(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer(RUN))
    assert taskyard("runs", "show", ID.upper()).document == RUN
    table = taskyard("runs", "show", ID, "-o", "table").out
    assert '"words": 2' in table
    assert "links" not in table


def test_a_result_that_is_too_large_for_the_run_is_fetched(
    service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer({**RUN, "result": None, "result_stored": True}))
    service.answer("GET", f"/tasks/{ID}/result", Answer(["a", "large", "one"]))
    assert taskyard("runs", "show", ID).document["result"] == ["a", "large", "one"]
    service.answer("GET", f"/tasks/{ID}/result", Answer('["cut o'))
    broken = taskyard("runs", "show", ID)
    assert (broken.code, broken.out) == (5, "")
    assert "is no JSON document" in broken.err


@pytest.mark.parametrize("command", ["show", "watch", "logs", "cancel", "rerun"])
@pytest.mark.parametrize("text", ["", "registered", "..", f"{ID}/result", "x" * 5000])
def test_what_is_no_id_is_not_found(
    command: str, text: str, service: FakeService, taskyard: RunCommand
) -> None:
    ended = taskyard("runs", command, text)
    assert ended.code == 3
    assert "next: taskyard runs list" in ended.err
    assert service.received == []


def test_watch_ends_with_the_run(service: FakeService, taskyard: RunCommand) -> None:
    running = {**RUN, "status": "RUNNING", "progress": {"current": 1, "total": 2}}
    service.answer("GET", f"/tasks/{ID}", Answer(running), Answer(RUN))
    ended = taskyard("runs", "watch", ID)
    assert (ended.code, ended.document) == (0, RUN)
    assert ended.err.splitlines() == [f"{ID}  RUNNING  1 of 2", f"{ID}  SUCCEEDED"]


def test_watch_fails_with_the_run(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer({**RUN, "status": "CANCELLED"}))
    ended = taskyard("runs", "watch", ID)
    assert ended.code == 1
    assert "RUN_CANCELLED" in ended.err


def test_watch_waits_no_longer_than_asked(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer({**RUN, "status": "RUNNING"}))
    assert taskyard("runs", "watch", ID, "--timeout", "0").code == 6


def test_watch_survives_a_restart_of_the_service(
    service: FakeService, taskyard: RunCommand
) -> None:
    running = Answer({**RUN, "status": "RUNNING"})
    away = problem(503, "SERVICE_UNAVAILABLE", "Away.")
    service.answer("GET", f"/tasks/{ID}", running, away, Answer(RUN))
    ended = taskyard("runs", "watch", ID)
    assert ended.code == 0
    assert "Away. Trying again." in ended.err


def test_logs_print_the_lines(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", f"/tasks/{ID}/logs", Answer({"items": [LINE], "next_cursor": None}))
    assert taskyard("runs", "logs", ID).document == [LINE]
    assert "Hello" in taskyard("runs", "logs", ID, "-o", "table").out


def test_cancel_prints_the_run(service: FakeService, taskyard: RunCommand) -> None:
    cancelled = {**RUN, "status": "CANCELLED"}
    service.answer("POST", f"/tasks/{ID}/cancel", Answer(cancelled, 202))
    ended = taskyard("runs", "cancel", ID)
    assert (ended.code, ended.document) == (0, cancelled)


def test_cancel_of_a_run_that_has_ended(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", f"/tasks/{ID}/cancel", problem(409, "RUN_HAS_ENDED"))
    ended = taskyard("runs", "cancel", ID)
    assert ended.code == 1
    assert f"next: taskyard runs show {ID}" in ended.err


NEW = {**RUN, "task_id": "01890a5d-ac96-774b-bcce-b302099a8058", "status": "PENDING"}
OLD = {**RUN, "params": {"text": "a b", "top": 1}}
SCHEMA = {"properties": {"text": {"type": "string"}, "top": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("arguments", "body"),
    [
        ((), {}),
        (("-p", "top=2"), {"params": {"text": "a b", "top": 2}}),
        (("-p", "text=2"), {"params": {"text": "2", "top": 1}}),
        (("--json", '{"text": "c"}'), {"params": {"text": "c"}}),
        (("--json", '{"text": "c"}', "-p", "top=3"), {"params": {"text": "c", "top": 3}}),
        (("--json", "{}"), {"params": {}}),
    ],
)
def test_rerun_sends_what_changes(
    arguments: tuple[str, ...], body: object, service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer(OLD))
    service.answer("GET", "/tasks/registered/text.count_words", Answer({"params_schema": SCHEMA}))
    service.answer("POST", f"/tasks/{ID}/rerun", Answer(NEW, 202))
    ended = taskyard("runs", "rerun", ID, *arguments, "--idempotency-key", "k")
    assert ended.code == 0
    assert ended.document["task_id"] == NEW["task_id"]
    sent = service.received[-1]
    assert (sent.method, sent.document, sent.headers["idempotency-key"]) == ("POST", body, "k")


def test_rerun_waits_for_the_new_run(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer(OLD))
    service.answer("POST", f"/tasks/{ID}/rerun", Answer(NEW, 202))
    failed = {**NEW, "status": "FAILED", "error": {"type": "E", "message": "no"}}
    service.answer("GET", f"/tasks/{NEW['task_id']}", Answer(failed))
    ended = taskyard("runs", "rerun", ID, "--wait")
    assert ended.code == 1
    assert f"taskyard runs logs {NEW['task_id']}" in ended.err


def test_rerun_with_wrong_parameters_leads_to_the_old_ones(
    service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", f"/tasks/{ID}", Answer(OLD))
    service.answer("POST", f"/tasks/{ID}/rerun", problem(422, "INVALID_PARAMS"))
    ended = taskyard("runs", "rerun", ID, "--json", "{}")
    assert ended.code == 2
    assert f"next: taskyard runs show {ID}" in ended.err
