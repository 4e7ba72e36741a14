"""Problems of the API and errors of this machine: exit code, text, and no traceback."""

import pytest

from app.cli.exit_codes import ExitCode, exit_code_of_status
from app.cli.failures import CommandError, Failure, failure_of, lines_of, suggesting, usage_error
from app.common.errors import (
    ConfigurationError,
    FieldError,
    Forbidden,
    NotFound,
    ServiceUnavailable,
    ValidationFailed,
)
from tests.unit.cli.commands import RunCommand
from tests.unit.cli.fake_service import Answer, FakeService, problem

RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        (400, 2),
        (401, 4),
        (403, 4),
        (404, 3),
        (409, 1),
        (410, 3),
        (413, 2),
        (415, 2),
        (422, 2),
        (429, 5),
        (500, 1),
        (502, 5),
        (503, 5),
        (504, 5),
    ],
)
def test_a_problem_becomes_an_exit_code(
    status: int, exit_code: int, service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", f"/tasks/{RUN_ID}", problem(status, "SOME_CODE"))
    ended = taskyard("runs", "show", RUN_ID)
    assert ended.code == exit_code == exit_code_of_status(status)
    assert ended.out == ""
    assert "SOME_CODE" in ended.err


def test_a_problem_is_told_whole(service: FakeService, taskyard: RunCommand) -> None:
    service.answer(
        "POST",
        "/tasks/run",
        problem(
            422,
            "INVALID_PARAMS",
            "1 parameter is wrong.",
            hint="See the schema.",
            errors=[{"loc": ["body", "params", "top"], "msg": "too small", "type": "x"}],
        ),
    )
    ended = taskyard("tasks", "run", "text.count_words", "-p", "top=x")
    assert ended.err.splitlines() == [
        "error INVALID_PARAMS: 1 parameter is wrong.",
        "  body.params.top: too small",
        "hint: See the schema.",
        "next: taskyard tasks show text.count_words",
        "trace id: 4bf92f3577b34da6a3ce929d0e0e4736",
    ]


@pytest.mark.parametrize(
    ("status", "code", "next_command"),
    [
        (404, "RUN_NOT_FOUND", "taskyard runs list"),
        (401, "UNAUTHORIZED", 'export TASKYARD_TOKEN="$(taskyard token)"'),
        (403, "FORBIDDEN", 'export TASKYARD_TOKEN="$(taskyard token)"'),
        (503, "SERVICE_UNAVAILABLE", "taskyard config show"),
        (418, "SOMETHING_NEW", "taskyard runs show --help"),
    ],
)
def test_the_next_command_is_named(
    status: int, code: str, next_command: str, service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", f"/tasks/{RUN_ID}", problem(status, code))
    assert f"next: {next_command}" in taskyard("runs", "show", RUN_ID).err.splitlines()


def test_when_to_try_again_is_told(service: FakeService, taskyard: RunCommand) -> None:
    body = {"code": "TOO_MANY_REQUESTS", "detail": "Too many."}
    service.answer("GET", "/tasks/registered", Answer(body, 429, {"Retry-After": "7"}))
    assert "hint: Try again in 7 s." in taskyard("tasks", "list").err.splitlines()


@pytest.mark.parametrize(
    ("error", "exit_code", "code"),
    [
        (NotFound("x"), ExitCode.NOT_FOUND, "NOT_FOUND"),
        (Forbidden("x"), ExitCode.NOT_ALLOWED, "FORBIDDEN"),
        (ServiceUnavailable("x"), ExitCode.UNAVAILABLE, "SERVICE_UNAVAILABLE"),
        (ConfigurationError("x"), ExitCode.USAGE, "CONFIGURATION_ERROR"),
        (usage_error("x"), ExitCode.USAGE, "USAGE"),
        (ZeroDivisionError("x"), ExitCode.FAILED, "INTERNAL_ERROR"),
    ],
)
def test_errors_of_this_machine_have_exit_codes(
    error: Exception, exit_code: ExitCode, code: str
) -> None:
    failure = failure_of(error)
    assert (failure.exit_code, failure.code) == (exit_code, code)


def test_wrong_fields_of_our_own_errors_are_told() -> None:
    fields = [FieldError(("params", "rows", 3), "not a number", "x")]
    lines = list(lines_of(failure_of(ValidationFailed("Wrong.", errors=fields)), "help"))
    assert lines == [
        "error VALIDATION_FAILED: Wrong.",
        "  params.rows.3: not a number",
        "next: help",
    ]


def test_why_a_service_is_away_is_told_on_the_host() -> None:
    error = ServiceUnavailable("The database 'x' does not answer.")
    assert failure_of(error).hint is None
    error.__cause__ = OSError("Access denied at mysql://me:hunter2@db\nsecond line")
    hint = failure_of(error).hint
    assert hint is not None
    assert hint.startswith("The cause: Access denied at mysql://me:*")
    assert "hunter2" not in hint
    assert "second line" not in hint


def test_an_unexpected_error_shows_no_secret_and_no_second_line() -> None:
    error = OSError("mysql://root:hunter2@db/lint is gone\n  in frame 3")
    failure = failure_of(error)
    assert failure.detail.startswith("OSError: mysql://root:*")
    assert "hunter2" not in failure.detail
    assert "frame" not in failure.detail
    assert failure_of(ValueError()).detail == "ValueError: no message"


def test_a_server_cannot_steer_the_terminal() -> None:
    failure = Failure(code="X", detail="\x1b[2Jgone\u202e", exit_code=ExitCode.FAILED, hint="\x9bm")
    text = "\n".join(lines_of(failure, "help"))
    assert text.isprintable() is False  # line feeds
    assert all(line.isprintable() for line in text.splitlines())
    assert "\\x1b[2Jgone\\u202e" in text


def test_suggesting_keeps_what_it_does_not_know() -> None:
    with pytest.raises(CommandError) as raised, suggesting({"OTHER": "taskyard x"}):
        raise usage_error("Wrong.", next_command="taskyard y")
    assert raised.value.failure.next_command == "taskyard y"
    with pytest.raises(CommandError) as raised, suggesting({"NOT_FOUND": "taskyard x"}):
        raise NotFound("Gone.")
    assert raised.value.failure.next_command == "taskyard x"


def test_an_unexpected_error_has_no_traceback_unless_it_is_asked_for(
    service: FakeService, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A run without a status breaks the contract, and so the command that waits for it.
    service.answer("GET", f"/tasks/{RUN_ID}", Answer({"task_id": RUN_ID}))
    ended = taskyard("runs", "watch", RUN_ID)
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "TASKYARD_TRACEBACK=1" in ended.err
    monkeypatch.setenv("TASKYARD_TRACEBACK", "1")
    assert "Traceback" in taskyard("runs", "watch", RUN_ID).err
