"""The query string: only names that the route knows, each once unless it is a list."""

import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi.dependencies.models import Dependant
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from starlette.datastructures import QueryParams

from app.common.errors import FieldError, NotFound, ValidationFailed

MAX_VALUE_CHARACTERS = 2048
_MAX_PATH_VALUE = 512
_PREFIXES = "__taskyard_query_prefixes__"

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def accepts_query_prefix(prefix: str) -> Callable[[Endpoint], Endpoint]:
    """Let a route take query parameters of any name with the prefix, like ``label.``."""

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _PREFIXES, (*getattr(endpoint, _PREFIXES, ()), prefix))
        return endpoint

    return mark


@dataclass(frozen=True)
class QueryRules:
    """The parameters of one route."""

    single: frozenset[str]
    repeatable: frozenset[str]
    prefixes: tuple[str, ...]

    @classmethod
    def of(cls, dependant: Dependant) -> "QueryRules":
        """Return the rules that follow from a route's signature and those of its dependencies."""
        fields = dict(_query_fields(dependant))
        repeatable = frozenset(name for name, annotation in fields.items() if _is_list(annotation))
        return cls(frozenset(fields) - repeatable, repeatable, tuple(_prefixes(dependant)))

    def check(self, query: QueryParams) -> None:
        """Raise ValidationFailed with one entry per unknown, repeated or unreadable parameter."""
        seen: set[str] = set()
        faults = []
        for name, value in query.multi_items():
            fault = self._fault(name, value, seen)
            if fault:
                faults.append(FieldError(("query", name[:100]), *fault))
            seen.add(name)
        if faults:
            known = ", ".join(
                sorted(self.single | self.repeatable | {f"{prefix}*" for prefix in self.prefixes})
            )
            raise ValidationFailed(
                "The query string is not valid.",
                errors=faults,
                hint=f"Known parameters: {known}."
                if known
                else "This route takes no query parameters.",
            )

    def _fault(self, name: str, value: str, seen: set[str]) -> tuple[str, str] | None:
        if name not in self.single | self.repeatable and not name.startswith(
            self.prefixes or ("\x00",)
        ):
            return "Unknown query parameter", "unknown_parameter"
        if name in seen and name not in self.repeatable:
            return "The parameter may stand only once", "repeated_parameter"
        if "\x00" in name + value:
            return "The parameter holds the NUL character", "invalid_text"
        if len(value) > MAX_VALUE_CHARACTERS:
            return (
                f"The parameter is longer than {MAX_VALUE_CHARACTERS} characters",
                "string_too_long",
            )
        return None


def check_path_values(values: dict[str, Any]) -> None:
    """Raise NotFound for a path that no stored name or id can have."""
    for value in values.values():
        if isinstance(value, str) and (len(value) > _MAX_PATH_VALUE or not value.isprintable()):
            raise NotFound


def _query_fields(dependant: Dependant) -> Iterator[tuple[str, object]]:
    for field in dependant.query_params:
        annotation = field.field_info.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from _model_fields(annotation.model_fields)
        else:
            yield field.alias, annotation
    for dependency in dependant.dependencies:
        yield from _query_fields(dependency)


def _prefixes(dependant: Dependant) -> Iterator[str]:
    yield from getattr(dependant.call, _PREFIXES, ())
    for dependency in dependant.dependencies:
        yield from _prefixes(dependency)


def _model_fields(fields: dict[str, FieldInfo]) -> Iterator[tuple[str, object]]:
    for name, field in fields.items():
        yield field.alias or name, field.annotation


def _is_list(annotation: object) -> bool:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_list(part) for part in typing.get_args(annotation))
    return typing.get_origin(annotation) in (list, tuple, set, frozenset) or annotation in (
        list,
        tuple,
        set,
    )
