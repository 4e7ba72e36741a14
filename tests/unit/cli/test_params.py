"""`-p key=value` and `--json`: text stays text, everything else is JSON."""

import io
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.cli.failures import CommandError
from app.cli.params import read_document, read_params
from app.common.errors import TaskyardError

SCHEMA: dict[str, Any] = {
    "$defs": {
        "Colour": {"enum": ["red"], "type": "string"},
        "Loop": {"anyOf": [{"$ref": "#/$defs/Loop"}]},
    },
    "properties": {
        "text": {"type": "string"},
        "perhaps": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "either": {"type": ["string", "integer"]},
        "colour": {"$ref": "#/$defs/Colour"},
        "described": {"allOf": [{"$ref": "#/$defs/Colour"}], "description": "x"},
        "top": {"type": "integer"},
        "rows": {"type": "array", "items": {"type": "string"}},
        "anything": {},
        "loop": {"$ref": "#/$defs/Loop"},
        "nowhere": {"$ref": "#/$defs/Gone"},
    },
}


def unasked() -> NoReturn:
    message = "the schema is not needed"
    raise AssertionError(message)


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("text=5", "5"),
        ("text=null", "null"),
        ("text=NaN", "NaN"),
        ("text=1e999", "1e999"),
        ('text="quoted"', '"quoted"'),
        ("text=a=b", "a=b"),
        ("text=", ""),
        ("perhaps=5", "5"),
        ("either=5", "5"),
        ("colour=7", "7"),
        ("described=7", "7"),
        ("top=5", 5),
        ("top=-1.5", -1.5),
        ("top=five", "five"),
        ("rows=[1, 2]", [1, 2]),
        ("rows=null", None),
        ("anything=true", True),
        ("anything=word", "word"),
        ("anything=NaN-ish", "NaN-ish"),
        ("unknown=5", 5),
        ("loop=5", 5),
        ("nowhere=5", 5),
    ],
)
def test_a_value_is_what_the_schema_wants(pair: str, value: object) -> None:
    assert read_params([pair], None, lambda: SCHEMA) == {pair.partition("=")[0]: value}


@given(st.text())
def test_text_arrives_as_it_was_written(text: str) -> None:
    assert read_params([f"text={text}"], None, lambda: SCHEMA) == {"text": text}


@given(st.integers(min_value=-(2**63), max_value=2**63 - 1) | st.booleans() | st.none())
def test_json_arrives_as_it_was_written(value: object) -> None:
    read = read_params([f"anything={json.dumps(value)}"], None, lambda: SCHEMA)
    assert read == {"anything": value}


def test_the_schema_is_asked_for_only_when_it_decides() -> None:
    assert read_params(["a=plain words"], '{"b": 1}', unasked) == {"a": "plain words", "b": 1}


def test_a_pair_wins_over_the_document() -> None:
    read = read_params(["top=2", "top=3"], '{"top": 1, "text": "x"}', lambda: SCHEMA)
    assert read == {"top": 3, "text": "x"}


@pytest.mark.parametrize("pair", ["text", "=5", ""])
def test_a_pair_without_a_key_or_a_sign_is_a_usage_error(pair: str) -> None:
    with pytest.raises(CommandError, match="is not key=value"):
        read_params([pair], None, unasked)


@pytest.mark.parametrize("value", ["NaN", "1e999", "[9223372036854775808]", '"\\u0000"'])
def test_a_value_that_cannot_be_kept_is_refused(value: str) -> None:
    with pytest.raises(TaskyardError):
        read_params([f"anything={value}"], None, lambda: SCHEMA)


def test_the_document_may_lie_in_a_file_or_come_on_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "params.json").write_text('{"text": "é"}', "utf-8")
    assert read_document(f"@{tmp_path}/params.json") == {"text": "é"}
    stdin = io.TextIOWrapper(io.BytesIO(b'{"top": 3}'))
    monkeypatch.setattr("sys.stdin", stdin)
    assert read_document("-") == {"top": 3}


@pytest.mark.parametrize("source", ["[1]", "null", "@missing.json", "@."])
def test_a_document_that_is_no_object_or_no_file(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError) as raised:
        read_document(source)
    assert raised.value.failure.exit_code == 2


@pytest.mark.parametrize("source", ["{", '{"a": 1, "a": 2}', '{"a": NaN}', '{"a": "\udcff"}'])
def test_a_document_that_is_no_strict_json(source: str) -> None:
    with pytest.raises(TaskyardError):
        read_document(source)
