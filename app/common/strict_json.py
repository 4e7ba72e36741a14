"""The one JSON door: what comes in is exact, or it is refused with the reason.

Python's own parser takes NaN, duplicate keys, lone surrogates and any depth;
what it lets through breaks a database or an answer later (RFC 8259 leaves these
cases open, RFC 7493 "I-JSON" closes them, and so do we).
"""

import json
import re
from collections import Counter
from typing import Any, NoReturn

import orjson

from app.common.errors import BadRequest, FieldError, ValidationFailed

MAX_DEPTH = 64
# What no common parser reads at all is malformed (400); in between it is JSON that we do not keep.
_UNREADABLE_DEPTH = 1000
_UNREADABLE_DIGITS = 4300
MAX_INTEGER = 2**63 - 1
MIN_INTEGER = -(2**63)
_SURROGATE = re.compile("[\ud800-\udfff]")
_NUL = "\x00"


class BadJson(BadRequest):
    """The body is not JSON in UTF-8, or one object has the same key twice."""

    code = "BAD_JSON"
    title = "Not valid JSON"


class InvalidJsonValue(ValidationFailed):
    """The JSON holds a value that no service here can keep: NaN, NUL, a lone surrogate, a huge
    number.
    """

    code = "INVALID_JSON_VALUE"
    title = "Value that cannot be kept"


def loads(data: bytes) -> Any:
    """Return the value of a JSON text in UTF-8.

    Raises BadJson for what is not JSON and InvalidJsonValue, with the place,
    for values that are JSON's or Python's but cannot be kept.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadJson("The body is not UTF-8.", hint="Send JSON encoded as UTF-8.") from error
    # The usual text has fewer brackets than levels are allowed.
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(text)
    try:
        value = _decode(text)
    except json.JSONDecodeError as error:
        detail = (
            f"The body is not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}."
        )
        raise BadJson(detail) from error
    # Raw text holds neither: UTF-8 knows no surrogates, and the parser refuses control characters.
    if "\\u" in text:
        check_strings(value)
    return value


def dumps(value: Any) -> str:
    """Return compact JSON text; raises TypeError for what JSON cannot say."""
    return dump_bytes(value).decode()


def dump_bytes(value: Any) -> bytes:
    """Return compact JSON in UTF-8; raises TypeError for what JSON cannot say."""
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z)


def check_strings(value: Any, loc: tuple[str | int, ...] = ()) -> None:
    """Raise InvalidJsonValue when a string or key in the value cannot be stored as text."""
    if isinstance(value, str):
        _check_string(value, loc)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_string(key, loc)
            check_strings(item, (*loc, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            check_strings(item, (*loc, index))


def keepable(text: str) -> str:
    """Return the text with replacement characters for what no database keeps."""
    return text.replace(_NUL, "\ufffd").encode("utf-8", "replace").decode()


def _check_string(text: str, loc: tuple[str | int, ...]) -> None:
    if _NUL in text:
        _refuse("A string holds the NUL character (\\u0000), which a database cannot keep.", loc)
    if _SURROGATE.search(text):
        _refuse("A string holds a lone surrogate, which is not a character.", loc)


def _refuse(message: str, loc: tuple[str | int, ...] = ()) -> NoReturn:
    raise InvalidJsonValue(
        message, errors=[FieldError(("body", *loc), message, "invalid_json_value")]
    )


def _refuse_constant(name: str) -> NoReturn:
    _refuse(f"{name} is not a JSON number.")


def _parse_int(digits: str) -> int:
    # The length is looked at first: converting thousands of digits is quadratic.
    if len(digits) > _UNREADABLE_DIGITS:
        raise BadJson(f"An integer has more than {_UNREADABLE_DIGITS} digits.")
    if len(digits) > 20 or not MIN_INTEGER <= (number := int(digits)) <= MAX_INTEGER:
        _refuse("An integer lies outside ±2^63.")
    return number


def _parse_float(digits: str) -> float:
    number = float(digits)
    if number in (float("inf"), float("-inf")):
        _refuse("A number is too large for a 64-bit float.")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        shown = counts.most_common(1)[0][0][:80].encode("ascii", "backslashreplace").decode()
        raise BadJson(f"The key '{shown}' stands twice in one object.")
    return result


# One decoder for all texts: `json.loads` makes a new one each time that it is given hooks.
_DECODER = json.JSONDecoder(
    parse_constant=_refuse_constant,
    parse_int=_parse_int,
    parse_float=_parse_float,
    object_pairs_hook=_object,
)


def _decode(text: str) -> Any:
    if text.startswith("\ufeff"):
        raise json.JSONDecodeError("Unexpected UTF-8 BOM (decode using utf-8-sig)", text, 0)
    return _DECODER.decode(text)


# Possessive, and content with a string that never ends: every character is looked at once, so a
# hostile text costs no more than a good one.
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{\]}]', re.DOTALL)


def _check_depth(text: str) -> None:
    """Bound the nesting before the recursive parser sees it."""
    depth = 0
    deepest = 0
    for match in _STRUCTURE.finditer(text):
        first = match.group()[0]
        if first in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in "]}":
            depth -= 1
        if deepest > _UNREADABLE_DEPTH:
            raise BadJson(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
    if deepest > MAX_DEPTH:
        _refuse(f"The JSON is nested deeper than {MAX_DEPTH} levels.")
