"""Every line is one JSON object without secrets, whatever is logged."""

import io
import json
import logging
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from app.common.logging import configure_logging, get_logger
from app.common.tracing import bind_trace, new_trace


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Captured:
    """What was written to standard error so far."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._text = ""

    def getvalue(self) -> str:
        self._text += self._capsys.readouterr().err
        return self._text


@pytest.fixture
def stderr(capsys: pytest.CaptureFixture[str]) -> Iterator[Captured]:
    """Standard error as a pipe; the logging of the test session comes back at the end."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield Captured(capsys)
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: Captured | io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_the_agreed_fields(stderr: Captured) -> None:
    configure_logging()
    trace = new_trace()
    with bind_trace(trace, task_id="1", attempt=2):
        get_logger("app.somewhere").info("attempt started", queue="default")
    (line,) = lines(stderr)
    moment = datetime.fromisoformat(line.pop("timestamp"))
    assert moment.tzinfo == UTC
    assert line == {
        "level": "info",
        "logger": "app.somewhere",
        "event": "attempt started",
        "trace_id": trace.trace_id,
        "task_id": "1",
        "attempt": 2,
        "queue": "default",
    }


def test_lines_of_libraries_have_the_same_shape(stderr: Captured) -> None:
    configure_logging()
    logging.getLogger("uvicorn.error").warning("bind %s failed", "redis://:hunter2@h")
    (line,) = lines(stderr)
    assert (line["level"], line["logger"]) == ("warning", "uvicorn.error")
    assert line["event"] == "bind redis://:**********@h failed"


def test_the_level_holds_and_chatty_libraries_are_quiet(stderr: Captured) -> None:
    configure_logging("WARNING")
    get_logger("app").info("not this")
    configure_logging("DEBUG")
    get_logger("app").debug("this")
    logging.getLogger("sqlfluff").info("SELECT everything")
    logging.getLogger("uvicorn.access").info("GET /")
    assert [line["event"] for line in lines(stderr)] == ["this"]


def test_configuring_twice_does_not_double_the_lines(stderr: Captured) -> None:
    configure_logging()
    configure_logging()
    get_logger("app").info("once")
    assert len(lines(stderr)) == 1


class Leaky:
    def __repr__(self) -> str:
        return "Leaky('amqp://u:hunter2@h')"


def test_no_secret_reaches_a_line(stderr: Captured) -> None:
    configure_logging()
    get_logger("app").info(
        "at postgresql://u:hunter2@h/d",
        password="hunter2",
        params={"nested": [{"api_key": "hunter2"}]},
        header="Bearer hunter2hunter2",
        object=Leaky(),
        error=ConnectionError("redis://:hunter2@h is away"),
    )
    assert len(lines(stderr)) == 1
    assert "hunter2" not in stderr.getvalue()


def fail() -> None:
    password, kept_apart = "hunter2", "swordfish"
    assert password != kept_apart
    message = f"cannot use mysql://u:{password}@h/d"
    raise ValueError(message)


def test_an_exception_is_told_with_its_frames_but_no_locals(stderr: Captured) -> None:
    configure_logging()
    try:
        fail()
    except ValueError:
        get_logger("app").exception("it failed")
    (line,) = lines(stderr)
    (told,) = line["exception"]
    assert told["exc_type"] == "ValueError"
    assert [frame["name"] for frame in told["frames"]][-1] == "fail"
    assert "hunter2" not in stderr.getvalue()
    # The line of code is not shown either, so the word can only come from a local variable.
    assert "swordfish" not in stderr.getvalue()


def test_an_exception_of_a_library_is_told_too(stderr: Captured) -> None:
    configure_logging()
    try:
        fail()
    except ValueError:
        logging.getLogger("celery").exception("it failed")
    (line,) = lines(stderr)
    assert line["exception"][0]["exc_type"] == "ValueError"
    assert "hunter2" not in stderr.getvalue()


@pytest.mark.parametrize(
    "value", ["\ud800", 2**80, {2**80: "\ud800"}, {("a", 1): 1}, "a\nb\x1b[31m\x00", object(), b"x"]
)
def test_no_value_costs_the_line(stderr: Captured, value: object) -> None:
    configure_logging()
    get_logger("app").info("odd", value=value)
    (line,) = lines(stderr)
    assert line["event"] == "odd"


def test_the_console_is_for_people_and_masks_as_well(
    stderr: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging("INFO", "auto")
    try:
        fail()
    except ValueError:
        get_logger("app").exception("it failed", object=Leaky(), password="hunter2")
    text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
    assert "it failed" in text
    assert "Traceback" in text
    assert "ValueError" in text
    assert "hunter2" not in text
    with pytest.raises(json.JSONDecodeError):
        json.loads(text.splitlines()[0])


def test_the_format_can_be_chosen(stderr: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    configure_logging("INFO", "console")
    get_logger("app").info("plain")
    assert "{" not in stderr.getvalue()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    configure_logging("INFO", "json")
    get_logger("app").info("as json")
    assert lines(terminal)[0]["event"] == "as json"
