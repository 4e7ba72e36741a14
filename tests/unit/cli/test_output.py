"""Tables for people, JSON for programs, and nothing that steers a terminal."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.output import OutputFormat, print_json, print_record, print_rows, progress
from app.cli.text import json_safe, printable

ROWS = [
    {"name": "a", "n": 1, "on": True, "tags": ["x", "y"], "more": {"k": "é"}, "none": None},
    {"name": "b", "n": 2, "on": False, "tags": [], "more": {}, "none": None},
]


class Terminal(io.TextIOWrapper):
    """Standard output as a terminal is."""

    def __init__(self, encoding: str = "utf-8") -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding=encoding, write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return self.written.getvalue().decode(self.encoding)


def open_terminal(monkeypatch: pytest.MonkeyPatch, encoding: str = "utf-8") -> Terminal:
    """Put a terminal in the place of standard output."""
    opened = Terminal(encoding)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout", opened)
    return opened


def test_a_terminal_gets_a_table_and_a_pipe_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    print_rows(ROWS, ["name", "n"], None)
    assert "name" in terminal.text
    assert not terminal.text.startswith("[")
    pipe = io.StringIO()
    monkeypatch.setattr("sys.stdout", pipe)
    print_rows(ROWS, ["name", "n"], None)
    assert json.loads(pipe.getvalue()) == ROWS


def test_json_is_stable(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"b": 1, "a": "é"}], ["a"], OutputFormat.JSON)
    assert capsys.readouterr().out == '[\n  {\n    "b": 1,\n    "a": "é"\n  }\n]\n'
    print_rows([], ["a"], OutputFormat.JSON)
    assert capsys.readouterr().out == "[]\n"


def test_json_lines_are_one_record_each(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, ["name"], OutputFormat.JSONL)
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == ROWS
    assert lines[1] == '{"name":"b","n":2,"on":false,"tags":[],"more":{},"none":null}'
    print_record({"a": [1]}, OutputFormat.JSONL)
    assert capsys.readouterr().out == '{"a":[1]}\n'


def test_a_table_in_a_pipe_is_not_folded(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": "x" * 300, "tags": ["a", "b"]}], ["name", "tags"], OutputFormat.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [["name", "tags"], ["x" * 300, "a,", "b"]]


def test_the_cells_of_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows(ROWS, ["on", "more", "none", "absent"], OutputFormat.TABLE)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:]] == [["yes", '{"k":', '"é"}'], ["no", "{}"]]


def test_a_record_shows_what_has_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    record = {"task_id": "1", "n": 0, "result": {"a": 1}, "error": None, "links": {"x": "y"}}
    print_record(record, OutputFormat.TABLE, without=["links"])
    shown = capsys.readouterr().out
    assert [line.split() for line in shown.splitlines()] == [
        ["task", "id", "1"],
        ["n", "0"],
        ["result", "{"],
        ['"a":', "1"],
        ["}"],
    ]


def test_markup_in_a_value_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([{"name": "[red]x[/red] :smile:"}], ["name"], OutputFormat.TABLE)
    assert "[red]x[/red] :smile:" in capsys.readouterr().out


def test_a_status_has_a_colour_unless_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch)
    print_rows([{"status": "FAILED"}], ["status"], None)
    assert "\x1b[31m" in terminal.text
    plain = open_terminal(monkeypatch)
    monkeypatch.setenv("NO_COLOR", "1")
    print_rows([{"status": "FAILED"}], ["status"], None)
    assert "\x1b[31m" not in plain.text
    assert "FAILED" in plain.text


@pytest.mark.parametrize("output", list(OutputFormat))
def test_a_value_cannot_steer_the_terminal(
    output: OutputFormat, capsys: pytest.CaptureFixture[str]
) -> None:
    print_rows([{"name": "\x1b]0;owned\x07\x9b2J\u202e\x7f\ud800"}], ["name"], output)
    shown = capsys.readouterr().out
    assert all(line.isprintable() for line in shown.splitlines())
    print_record({"name": "\x1b[2J"}, output)
    assert "\x1b" not in capsys.readouterr().out
    progress("\x1b[2J")
    assert capsys.readouterr().err == "\\x1b[2J\n"


@given(st.recursive(st.text() | st.integers() | st.none(), st.lists))
def test_json_keeps_its_value(value: object) -> None:
    document = json_safe(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert printable(document) == document


def test_a_terminal_that_is_not_utf8_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = open_terminal(monkeypatch, "ascii")
    print_json({"name": "é"})
    assert json.loads(terminal.text) == {"name": "é"}
