"""What bounds the attempts of a task over all workers, and the key under which runs are counted."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any

import orjson
from pydantic_core import to_jsonable_python

from app.tasks.declaration import TaskOptions
from app.tasks.errors import TaskDeclarationError
from app.tasks.rates import Rate, read_rate

_LONGEST_KEY = 300


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one task; `key` is made of literal text and parameters, None for one bound of
    the whole task.
    """

    task: str
    rate: Rate | None
    max_concurrency: int | None
    key: tuple[tuple[str, str | None], ...] | None

    def key_of(self, arguments: Mapping[str, Any]) -> str:
        """Return the key under which a run with these arguments is counted."""
        if self.key is None:
            return self.task
        parts = (
            literal + ("" if name is None else _text_of(arguments[name]))
            for literal, name in self.key
        )
        whole = f"{self.task}:{''.join(parts)}"
        if len(whole) <= _LONGEST_KEY:
            return whole
        return f"{self.task}:{hashlib.sha256(whole.encode()).hexdigest()}"


def limits_of(options: TaskOptions, parameters: Sequence[str]) -> Limits:
    """Return the limits that the options ask for; TaskDeclarationError for a key that names no
    parameter.
    """
    return Limits(
        options.name,
        None if options.rate_limit is None else read_rate(options.rate_limit),
        options.max_concurrency,
        None if options.concurrency_key is None else _key(options, parameters),
    )


def _key(options: TaskOptions, parameters: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    text = options.concurrency_key or ""
    template = text if "{" in text or "}" in text else f"{{{text}}}"
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise _wrong_key(options, f"is no template: {error}", parameters) from None
    for _, name, form, conversion in parts:
        if name is not None and (form or conversion):
            raise _wrong_key(options, "asks for a format", parameters)
        if name is not None and name not in parameters:
            raise _wrong_key(options, f"names '{name}', which is no parameter", parameters)
    if all(name is None for _, name, _, _ in parts):
        raise _wrong_key(options, "names no parameter", parameters)
    return tuple((literal, name) for literal, name, _, _ in parts)


def _wrong_key(options: TaskOptions, why: str, parameters: Sequence[str]) -> TaskDeclarationError:
    there_are = ", ".join(parameters) or "none"
    return TaskDeclarationError(
        f"The concurrency_key {options.concurrency_key!r} of the task '{options.name}' {why}.",
        hint="Write the name of a parameter, or a template like '{host}:{port}'."
        f" Its parameters: {there_are}.",
    )


def _text_of(value: Any) -> str:
    plain = to_jsonable_python(value)
    if isinstance(plain, str):
        return plain
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS).decode()
