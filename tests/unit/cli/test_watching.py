"""Following a run, with time that passes only when it is told to."""

import io
import sys

import pytest

from app.cli.client import Run
from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure
from app.cli.watching import follow, require_success


class Time:
    """A clock that moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Service:
    """Gives one state after the other; the last one stays."""

    def __init__(self, *states: Run | CommandError) -> None:
        self.states = list(states)

    def run(self, task_id: str) -> Run:
        assert task_id == "1"
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if isinstance(state, CommandError):
            raise state
        return state


def run_in(status: str, **more: object) -> Run:
    return {"task_id": "1", "status": status, "attempt": 1, "max_attempts": 3, **more}  # type: ignore[typeddict-item]  # fields by name


def gone(exit_code: ExitCode = ExitCode.UNAVAILABLE) -> CommandError:
    return CommandError(Failure(code="GONE", detail="The service is gone.", exit_code=exit_code))


def test_each_change_is_told_once() -> None:
    told: list[str] = []
    clock = Time()
    states = [
        run_in("PENDING"),
        run_in("RUNNING"),
        run_in("RUNNING", progress={"current": 1, "total": 4, "message": "reading"}),
        run_in("RUNNING", progress={"current": 1, "total": 4, "message": "reading"}),
        run_in("RETRYING", progress={"current": 2, "total": None, "message": None}),
        run_in("RUNNING", attempt=2),
        run_in("SUCCEEDED", attempt=2, result=5),
    ]
    ended = follow(Service(*states), states[0], tell=told.append, clock=clock)
    assert ended["result"] == 5
    assert told == [
        "1  PENDING",
        "1  RUNNING",
        "1  RUNNING  1 of 4  reading",
        "1  RETRYING  2",
        "1  RUNNING  attempt 2 of 3",
        "1  SUCCEEDED  attempt 2 of 3",
    ]
    assert clock.pauses == sorted(clock.pauses)


def test_the_pauses_grow_to_a_second() -> None:
    clock = Time()
    states = [run_in("PENDING")] * 20 + [run_in("SUCCEEDED")]
    follow(Service(*states), states[0], tell=lambda _: None, clock=clock)
    assert max(clock.pauses) == 1.0
    assert clock.pauses[0] == 0.1


def test_an_accepted_run_that_has_ended_is_fetched_whole() -> None:
    accepted: Run = {"task_id": "1", "status": "SUCCEEDED"}
    whole = run_in("SUCCEEDED", result=5)
    assert follow(Service(whole), accepted, tell=lambda _: None, clock=Time()) is whole


@pytest.mark.parametrize("timeout_seconds", [0, 0.25, 3])
def test_the_time_is_over(timeout_seconds: float) -> None:
    clock = Time()
    last = follow(
        Service(run_in("RUNNING")),
        run_in("PENDING"),
        timeout_seconds=timeout_seconds,
        tell=lambda _: None,
        clock=clock,
    )
    assert last["status"] == ("PENDING" if timeout_seconds == 0 else "RUNNING")
    assert clock.now == pytest.approx(1000 + timeout_seconds)


def test_a_service_that_comes_back_is_waited_for() -> None:
    told: list[str] = []
    service = Service(gone(), gone(), gone(), run_in("SUCCEEDED"))
    ended = follow(service, run_in("RUNNING"), tell=told.append, clock=Time())
    assert ended["status"] == "SUCCEEDED"
    assert told == ["1  RUNNING", "The service is gone. Trying again.", "1  SUCCEEDED"]


def test_a_service_that_stays_away_is_given_up() -> None:
    clock = Time()
    with pytest.raises(CommandError, match="gone"):
        follow(Service(gone()), run_in("RUNNING"), tell=lambda _: None, clock=clock)
    assert 1030 <= clock.now < 1032


def test_a_run_that_is_not_there_any_more_is_no_reason_to_wait() -> None:
    clock = Time()
    with pytest.raises(CommandError):
        follow(Service(gone(ExitCode.NOT_FOUND)), run_in("RUNNING"), clock=clock)
    assert len(clock.pauses) == 1


@pytest.mark.parametrize(
    ("status", "exit_code"),
    [
        ("FAILED", 1),
        ("CANCELLED", 1),
        ("EXPIRED", 1),
        ("RUNNING", 6),
        ("PENDING", 6),
        ("RETRYING", 6),
        ("SCHEDULED", 6),
    ],
)
def test_only_success_is_success(status: str, exit_code: int) -> None:
    with pytest.raises(CommandError) as raised:
        require_success(run_in(status), 1.5)
    assert raised.value.failure.exit_code == exit_code
    require_success(run_in("SUCCEEDED"))


def test_why_it_failed_is_told() -> None:
    error = {"type": "Fatal", "message": "no such table"}
    with pytest.raises(CommandError) as raised:
        require_success(run_in("FAILED", error=error))
    assert raised.value.failure.detail == "The run ended as FAILED. Fatal: no such table"
    assert raised.value.failure.next_command == "taskyard runs logs 1"


class Terminal(io.StringIO):
    """A standard error on which somebody looks."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_with_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setenv("COLUMNS", "60")
    states = [
        run_in("RUNNING"),
        run_in("RUNNING", progress={"current": 1, "total": 4, "message": "x" * 100}),
        run_in("SUCCEEDED", progress={"current": 4, "total": 4, "message": None}),
    ]
    follow(Service(*states), states[0], clock=Time())
    first, second, third = terminal.getvalue().splitlines()
    assert first == "1  RUNNING"
    # The line before is taken back, and what would wrap is cut.
    assert second.startswith("\x1b[1A\x1b[2K1  RUNNING  [#####...............]  1 of 4  xxx")
    assert len(second.removeprefix("\x1b[1A\x1b[2K")) == 59
    assert third == "\x1b[1A\x1b[2K1  SUCCEEDED  [####################]  4 of 4"


def test_a_pipe_gets_lines_without_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    state = run_in("SUCCEEDED", progress={"current": 1, "total": 4, "message": None})
    follow(Service(state), state, clock=Time())
    assert capsys.readouterr().err == "1  SUCCEEDED  1 of 4\n"
