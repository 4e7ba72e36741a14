"""Parameters of a task as they are written on a command line."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from app.cli.failures import usage_error
from app.common import strict_json

Schema = Mapping[str, Any]


def read_params(
    pairs: Sequence[str], document: str | None, schema_of_params: Callable[[], Schema]
) -> dict[str, Any]:
    """Return the parameters of `--json` with those of `-p key=value` put over them.

    A value is JSON when it parses as JSON and the schema does not take it as
    text. The schema is asked for only when a value leaves the choice.
    """
    params = read_document(document) if document is not None else {}
    texts = dict(_pair(one) for one in pairs)
    # Text that is not JSON can only mean itself.
    open_keys = {key for key, text in texts.items() if _is_json(text)}
    schema = schema_of_params() if open_keys else {}
    for key, text in texts.items():
        is_text = key not in open_keys or _takes_text(schema, key)
        params[key] = text if is_text else strict_json.loads(text.encode())
    return params


def read_labels(pairs: Sequence[str]) -> dict[str, str]:
    """Return the labels of `key=value`, each."""
    labels = {}
    for text in pairs:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise usage_error(f"'{text}' is not key=value.", hint="For example: --label job=night")
        labels[key] = value
    return labels


def read_document(source: str, *, option: str = "--json") -> dict[str, Any]:
    """Return the JSON object that stands in the text, in `@file`, or on standard input for `-`."""
    document = strict_json.loads(_bytes_of(source))
    if not isinstance(document, dict):
        raise usage_error(
            f"The document of {option} must be an object.",
            hint=f"""Name the parameters: {option} '{{"text": "a b"}}'""",
        )
    return document


def _bytes_of(source: str) -> bytes:
    if source == "-":
        return sys.stdin.buffer.read()
    if not source.startswith("@"):
        return source.encode("utf-8", "surrogateescape")
    try:
        return Path(source[1:]).read_bytes()
    except OSError as error:
        raise usage_error(f"The file '{source[1:]}' cannot be read: {error.strerror}.") from error


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise usage_error(f"'{text}' is not key=value.", hint="For example: -p text='a b' -p top=3")
    return key, value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _takes_text(schema: Schema, key: str) -> bool:
    part = schema.get("properties", {}).get(key)
    return part is not None and _allows_string(part, schema.get("$defs", {}), depth=0)


def _allows_string(part: Schema, definitions: Mapping[str, Schema], depth: int) -> bool:
    """Return whether the schema says that a string will do; one without a type says nothing."""
    if depth > 16:  # A definition may refer to itself.
        return False
    if "$ref" in part:
        name = str(part["$ref"]).rpartition("/")[2]
        return _allows_string(definitions.get(name, {}), definitions, depth + 1)
    choices = [*part.get("anyOf", ()), *part.get("oneOf", ()), *part.get("allOf", ())]
    if any(_allows_string(one, definitions, depth + 1) for one in choices):
        return True
    types = part.get("type")
    return types == "string" or (isinstance(types, list) and "string" in types)
