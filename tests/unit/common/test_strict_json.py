"""The one JSON door, class by class of what must not pass it."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.common.strict_json import (
    MAX_DEPTH,
    MAX_INTEGER,
    MIN_INTEGER,
    BadJson,
    InvalidJsonValue,
    check_strings,
    dump_bytes,
    dumps,
    loads,
)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{'a': 1}",
        b'{"a": 1}}',
        b'{"a": 1} {"b": 2}',
        b'{"a": 1,}',
        b"[1,]",
        b"[1 2]",
        b"// comment\n1",
        b'{"a": /* comment */ 1}',
        b"{a: 1}",
        b"True",
        b"undefined",
        b"01",
        b"+1",
        b".5",
        b"0x10",
        b'"line\nbreak"',
        b'"\\x41"',
        b'"\\u00"',
        b'"no end',
        b'["\\"',
        b"[",
        b"]",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        "{}".encode("utf-32"),
        b'"\xff"',
        b'"\xc3"',
        b'"\xed\xa0\x80"',  # a surrogate as UTF-8 bytes
        b'"\xc0\x80"',  # NUL as two bytes
        b"[" * 100_000 + b"]" * 100_000,
        b"[" * 1001 + b"]" * 1001,
        b"9" * 5000,
        b"-" + b"9" * 5000,
    ],
)
def test_what_is_no_json_is_bad(body: bytes) -> None:
    with pytest.raises(BadJson):
        loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b"[Infinity]",
        b'{"a": -Infinity}',
        b"1e999",
        b"-1e999",
        b'["\\ud800"]',
        b'["\\udc00\\ud800"]',
        b'{"\\udfff": 1}',
        b'"\\u0000"',
        b'{"a\\u0000b": 1}',
        b"9" * 400,
        b"9223372036854775808",
        b"-9223372036854775809",
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 900 + b"]" * 900,
    ],
)
def test_what_cannot_be_kept_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidJsonValue) as caught:
        loads(body)
    assert caught.value.errors[0].type == "invalid_json_value"
    # The answer itself must be one that can be sent.
    assert dump_bytes([caught.value.detail, *map(list, caught.value.errors)])


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "b": 2, "\\u0061": 3}',
        b'[{"x": {"a": 1, "a": 2}}]',
        b'{"\\ud800": 1, "\\ud800": 2}',
        b'{"' + b"a" * 5000 + b'": 1, "' + b"a" * 5000 + b'": 2}',
    ],
)
def test_a_key_that_stands_twice_is_bad(body: bytes) -> None:
    with pytest.raises(BadJson, match="twice") as caught:
        loads(body)
    assert len(caught.value.detail) < 200
    assert dump_bytes(caught.value.detail)


def test_the_same_key_may_stand_in_two_objects() -> None:
    assert loads(b'[{"a": {"a": 1}}, {"a": 2}]') == [{"a": {"a": 1}}, {"a": 2}]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"null", None),
        (b" [1, 2.5, true] ", [1, 2.5, True]),
        (b"9223372036854775807", MAX_INTEGER),
        (b"-9223372036854775808", MIN_INTEGER),
        (b"-0", 0),
        (b"1e3", 1000.0),
        (b"1e-999", 0.0),
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b'"[[[[{{{{\\"]]"', '[[[[{{{{"]]'),
        (b'"\\u0001\\t"', "\x01\t"),
        (b'"{{7*7}} %s \'; DROP"', "{{7*7}} %s '; DROP"),
        (b'{"__proto__": {"$where": 1}}', {"__proto__": {"$where": 1}}),
    ],
)
def test_what_is_exact_passes(body: bytes, value: object) -> None:
    read = loads(body)
    assert read == value
    assert type(read) is type(value)


def test_the_deepest_that_is_kept() -> None:
    value = loads(b"[" * MAX_DEPTH + b"]" * MAX_DEPTH)
    depth = 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == MAX_DEPTH - 1


def test_brackets_side_by_side_are_not_deep() -> None:
    assert loads(b"[" + b"[]," * 5000 + b"[]]") == [[]] * 5001


def test_the_place_of_a_fault_is_told() -> None:
    with pytest.raises(InvalidJsonValue) as caught:
        loads(b'{"a": [1, {"b": "x\\u0000"}]}')
    assert caught.value.errors[0].loc == ("body", "a", 1, "b")


def test_the_line_of_a_fault_is_told() -> None:
    with pytest.raises(BadJson, match="line 2, column 3"):
        loads(b'{"a": 1,\n  b}')


@pytest.mark.timeout(60)
def test_a_hostile_text_costs_no_more_than_its_length() -> None:
    # Escaped quotes in a string that never ends: a scan for each of them would take hours.
    with pytest.raises(BadJson):
        loads(b'["' + b'\\"' * 500_000)


def test_statuses_and_codes() -> None:
    assert (BadJson.status, BadJson.code) == (400, "BAD_JSON")
    assert (InvalidJsonValue.status, InvalidJsonValue.code) == (422, "INVALID_JSON_VALUE")


def test_strings_of_values_that_came_another_way() -> None:
    check_strings({"a": ["fine", 1, None]})
    for value in ("\x00", ["\ud800"], {"a": {"\x00": 1}}):
        with pytest.raises(InvalidJsonValue):
            check_strings(value)


def test_dumping_refuses_what_json_cannot_say() -> None:
    with pytest.raises(TypeError):
        dumps(object())
    with pytest.raises(TypeError):
        dumps({"a": "\ud800"})


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(MIN_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=25,
)


@given(values)
def test_what_is_dumped_is_read_as_it_was(value: Any) -> None:
    assert _same(loads(dump_bytes(value)), value)
    assert dumps(value).encode() == dump_bytes(value)


@given(st.binary(max_size=60) | st.text('[]{}"\\,:01eE+-.utN \x00\ud800', max_size=60))
def test_any_bytes_are_read_or_refused_by_name(body: bytes | str) -> None:
    data = body if isinstance(body, bytes) else body.encode("utf-8", "surrogatepass")
    try:
        value = loads(data)
    except (BadJson, InvalidJsonValue):
        return
    assert _same(loads(dump_bytes(value)), value)


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right and math.copysign(1, left) == math.copysign(1, right)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[key], right[key]) for key in left)
    return type(left) is type(right) and left == right
