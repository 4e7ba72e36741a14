"""`taskyard tasks` against a service that answers as it is told."""

import io

import pytest

from tests.unit.cli.commands import RunCommand
from tests.unit.cli.fake_service import Answer, FakeService, problem

TASK = {
    "name": "text.count_words",
    "plugin": "text",
    "kind": "code",
    "queue": "default",
    "description": "Count.",
    "params_schema": {"properties": {"text": {"type": "string"}, "top": {"type": "integer"}}},
    "added_later": 1,
}
ACCEPTED = {"task_id": "r1", "task": TASK["name"], "status": "PENDING", "created_at": "now"}
WHOLE = {**ACCEPTED, "attempt": 1, "max_attempts": 1, "links": {"self": "/x"}}


@pytest.fixture
def tasks(service: FakeService) -> FakeService:
    service.answer("GET", "/tasks/registered", Answer({"items": [TASK], "next_cursor": None}))
    service.answer("GET", "/tasks/registered/text.count_words", Answer(TASK))
    service.answer("POST", "/tasks/run", Answer(ACCEPTED, 202))
    return service


def test_list_prints_what_the_service_says(tasks: FakeService, taskyard: RunCommand) -> None:
    assert taskyard("tasks", "list", "-o", "json").document == [TASK]
    shown = taskyard("tasks", "list", "-o", "table").out.splitlines()
    assert shown[0].split() == ["name", "plugin", "kind", "queue", "description"]
    assert shown[1].split() == ["text.count_words", "text", "code", "default", "Count."]


def test_show_prints_one_task(tasks: FakeService, taskyard: RunCommand) -> None:
    assert taskyard("tasks", "show", "text.count_words").document == TASK


def test_show_of_an_unknown_task(service: FakeService, taskyard: RunCommand) -> None:
    answer = problem(404, "TASK_NOT_REGISTERED", hint="Did you mean 'text.count_words'?")
    service.answer("GET", "/tasks/registered/text.count", answer)
    ended = taskyard("tasks", "show", "text.count")
    assert ended.code == 3
    assert "hint: Did you mean 'text.count_words'?" in ended.err
    assert "next: taskyard tasks list" in ended.err


def test_run_submits_and_does_not_wait(tasks: FakeService, taskyard: RunCommand) -> None:
    ended = taskyard("tasks", "run", "text.count_words", "-p", "text=5", "-p", "top=5")
    assert (ended.code, ended.document) == (0, ACCEPTED)
    sent = tasks.received[-1]
    assert sent.document == {"task": "text.count_words", "params": {"text": "5", "top": 5}}
    assert "idempotency-key" not in sent.headers
    assert sent.headers["content-type"] == "application/json"


def test_run_sends_the_idempotency_key(tasks: FakeService, taskyard: RunCommand) -> None:
    taskyard("tasks", "run", "x.y", "--idempotency-key", "night-1")
    assert tasks.received[-1].headers["idempotency-key"] == "night-1"
    assert tasks.received[-1].document == {"task": "x.y", "params": {}}


def test_run_sends_options_and_labels(tasks: FakeService, taskyard: RunCommand) -> None:
    options = ("--delay", "60", "--priority", "9", "--queue", "slow", "--label", "a=b=c")
    assert taskyard("tasks", "run", "x.y", *options).code == 0
    assert tasks.received[-1].document == {
        "task": "x.y",
        "params": {},
        "options": {"delay_seconds": 60.0, "priority": 9, "queue": "slow"},
        "labels": {"a": "b=c"},
    }


@pytest.mark.parametrize("wrong", [("--priority", "10"), ("--delay", "-1"), ("--label", "x")])
def test_options_that_cannot_be_are_a_usage_error(
    wrong: tuple[str, str], taskyard: RunCommand
) -> None:
    assert taskyard("tasks", "run", "x.y", *wrong).code == 2


def test_run_takes_the_parameters_from_standard_input(
    tasks: FakeService, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "a"}')))
    taskyard("tasks", "run", "text.count_words", "--json", "-")
    assert tasks.received[-1].document["params"] == {"text": "a"}


def test_run_waits_for_success(tasks: FakeService, taskyard: RunCommand) -> None:
    done = {**WHOLE, "status": "SUCCEEDED", "result": {"words": 2}}
    tasks.answer("GET", "/tasks/r1", Answer({**WHOLE, "status": "RUNNING"}), Answer(done))
    ended = taskyard("tasks", "run", "text.count_words", "--wait", "--timeout", "60")
    assert (ended.code, ended.document) == (0, done)
    assert ended.err.splitlines() == ["r1  PENDING", "r1  RUNNING", "r1  SUCCEEDED"]


def test_run_waits_for_failure(tasks: FakeService, taskyard: RunCommand) -> None:
    failed = {**WHOLE, "status": "FAILED", "error": {"type": "Fatal", "message": "no"}}
    tasks.answer("GET", "/tasks/r1", Answer(failed))
    ended = taskyard("tasks", "run", "text.count_words", "--wait", "-o", "table")
    assert ended.code == 1
    assert "links" not in ended.out
    assert "error RUN_FAILED: The run ended as FAILED. Fatal: no" in ended.err
    assert "next: taskyard runs logs r1" in ended.err


def test_run_waits_no_longer_than_asked(tasks: FakeService, taskyard: RunCommand) -> None:
    tasks.answer("GET", "/tasks/r1", Answer({**WHOLE, "status": "RUNNING"}))
    ended = taskyard("tasks", "run", "text.count_words", "--wait", "--timeout", "0.2")
    assert ended.code == 6
    assert ended.document["status"] == "RUNNING"
    assert "next: taskyard runs watch r1" in ended.err


def test_a_negative_timeout_is_a_usage_error(taskyard: RunCommand) -> None:
    assert taskyard("tasks", "run", "x.y", "--wait", "--timeout", "-1").code == 2


def test_an_interrupted_wait_ends_as_shells_expect(
    tasks: FakeService, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    tasks.answer("GET", "/tasks/r1", Answer({**WHOLE, "status": "RUNNING"}))
    monkeypatch.setattr("time.sleep", interrupt)
    assert taskyard("tasks", "run", "text.count_words", "--wait").code == 130
