"""Signatures become schemas, and what comes in is read by the rules of strict JSON."""

import enum
import socket
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from app import StoredResult, TaskContext
from app.common.strict_json import loads
from app.tasks.declaration import DECLARATION, TaskOptions
from app.tasks.errors import InvalidParams, TaskDeclarationError
from app.tasks.registry import TaskSpec, spec_of
from app.tasks.signature import Signature, decode_result, encode_result, read_signature


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict):
    deep: bool


class Person(BaseModel):
    name: str
    born: date | None = None


def spec(function: Callable[..., Any]) -> TaskSpec:
    setattr(function, DECLARATION, TaskOptions(name="test.task"))
    return spec_of(function, "test")


def read(function: Callable[..., Any], json: bytes) -> dict[str, Any]:
    return spec(function).read_params(loads(json))


def wrong(function: Callable[..., Any], json: bytes) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(InvalidParams) as caught:
        read(function, json)
    return [(fault.loc, fault.type) for fault in caught.value.errors]


def everything(
    when: datetime,
    day: date,
    key: uuid.UUID,
    colour: Colour,
    point: Point,
    options: Options,
    person: Person,
    perhaps: int | None,
    choice: Literal["a", "b"],
    small: Annotated[int, Field(ge=1, le=9)],
    names: list[str],
    pairs: dict[str, float],
    unique: set[int],
    price: Decimal,
    path: Path,
    two: tuple[int, str],
    top: int = 10,
) -> None:
    """Take one of each."""


GOOD = (
    b'{"when": "2026-01-31T12:00:00Z", "day": "2026-01-31", "key":'
    b' "0198c0de-0000-7000-8000-000000000000", "colour": "red", "point": {"x": 1},'
    b' "options": {"deep": true}, "person": {"name": "Anna", "born": "2000-02-29"},'
    b' "perhaps": null, "choice": "b", "small": 9, "names": ["a"], "pairs": {"a": 1},'
    b' "unique": [1, 2], "price": "1.10", "path": "a/b", "two": [1, "x"]}'
)


def test_every_type_that_json_can_carry_arrives_as_itself() -> None:
    arguments = read(everything, GOOD)
    assert arguments["when"].tzinfo is not None
    assert arguments["day"] == date(2026, 1, 31)
    assert arguments["key"] == uuid.UUID("0198c0de-0000-7000-8000-000000000000")
    assert arguments["colour"] is Colour.RED
    assert arguments["point"] == Point(1, 0)
    assert arguments["options"] == {"deep": True}
    assert arguments["person"] == Person(name="Anna", born=date(2000, 2, 29))
    assert arguments["unique"] == {1, 2}
    assert arguments["price"] == Decimal("1.10")
    assert arguments["path"] == Path("a/b")
    assert arguments["two"] == (1, "x")
    assert arguments["top"] == 10
    assert list(arguments) == list(everything.__annotations__)[:-1]
    everything(**arguments)


def test_the_schema_is_json_schema_2020_12_and_agrees() -> None:
    schema = spec(everything).signature.params_schema
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(everything.__annotations__) - {"return"}
    assert "top" not in schema["required"]
    assert schema["properties"]["top"]["default"] == 10
    assert schema["additionalProperties"] is False
    validator = Draft202012Validator(schema)
    validator.validate(loads(GOOD))
    for bad in (b"{}", GOOD.replace(b'"small": 9', b'"small": 10'), GOOD.replace(b"red", b"r")):
        assert not validator.is_valid(loads(bad))
        assert wrong(everything, bad)


def numbers(number: int, share: float = 0.5, is_on: bool = False, text: str = "") -> None:
    """Take plain values."""


@pytest.mark.parametrize(
    ("json", "name"),
    [
        (b'{"number": "1"}', "number"),
        (b'{"number": true}', "number"),
        (b'{"number": 1.5}', "number"),
        (b'{"number": null}', "number"),
        (b'{"number": [1]}', "number"),
        (b'{"number": 1, "share": "0.5"}', "share"),
        (b'{"number": 1, "share": true}', "share"),
        (b'{"number": 1, "is_on": 1}', "is_on"),
        (b'{"number": 1, "is_on": "true"}', "is_on"),
        (b'{"number": 1, "text": 5}', "text"),
        (b'{"number": 1, "text": ["a"]}', "text"),
    ],
)
def test_no_value_is_bent_into_another_type(json: bytes, name: str) -> None:
    faults = wrong(numbers, json)
    assert [loc for loc, _ in faults] == [("params", name)]


def test_a_whole_number_is_a_float_too() -> None:
    assert read(numbers, b'{"number": 1, "share": 2}')["share"] == 2.0


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (b'"2026-01-31T12:00:00Z"', b'"9999-99-99"', "when"),
        (b'"2026-01-31T12:00:00Z"', b'"10000-01-01T00:00:00Z"', "when"),
        (b'"day": "2026-01-31"', b'"day": "2026-02-30"', "day"),
        (b'"0198c0de-0000-7000-8000-000000000000"', b'"x"', "key"),
        (b'"red"', b'"green"', "colour"),
        (b'{"x": 1}', b'{"x": "1"}', "point"),
        (b'{"deep": true}', b'{"deep": 1}', "options"),
        (b'"choice": "b"', b'"choice": "c"', "choice"),
        (b'"small": 9', b'"small": 0', "small"),
        (b'["a"]', b'["a", 5]', "names"),
        (b'{"a": 1}', b'{"a": "1"}', "pairs"),
    ],
)
def test_a_wrong_value_is_placed(old: bytes, new: bytes, place: str) -> None:
    (fault,) = wrong(everything, GOOD.replace(old, new))
    assert fault[0][:2] == ("params", place)


def test_each_wrong_field_has_its_entry() -> None:
    faults = wrong(numbers, b'{"share": "x", "is_on": 1, "more": 2}')
    assert sorted(loc[1] for loc, _ in faults) == ["is_on", "more", "number", "share"]
    assert (("params", "more"), "extra_forbidden") in faults
    assert (("params", "number"), "missing") in faults


def odd_names(
    schema: int, copy: str, json: int, model_config: str, model_fields: int, self: int,
    arg_0: int = 7, validate: int = 8,
) -> list[Any]:  # fmt: skip
    """Take parameters that are called like parts of a model."""
    return [schema, copy, json, model_config, model_fields, self, arg_0, validate]


def test_parameters_may_be_called_like_anything() -> None:
    json = b'{"schema":1,"copy":"c","json":2,"model_config":"m","model_fields":3,"self":4}'
    assert odd_names(**read(odd_names, json)) == [1, "c", 2, "m", 3, 4, 7, 8]
    assert odd_names(**read(odd_names, json[:-1] + b',"arg_0":9}'))[6] == 9
    schema = spec(odd_names).signature.params_schema
    assert set(schema["properties"]) == set(odd_names.__annotations__) - {"return"}


def test_a_field_goes_by_the_parameters_name_alone() -> None:
    def task(size: Annotated[int, Field(alias="other")]) -> None:
        """Take an alias that counts for nothing."""

    assert read(task, b'{"size": 1}') == {"size": 1}
    assert wrong(task, b'{"arg_0": 1}')


def test_a_mutable_default_is_not_shared() -> None:
    def task(names: list[str] = []) -> None:  # noqa: B006 - what is tested
        """Take a list."""

    read(task, b"{}")["names"].append("x")
    assert read(task, b"{}") == {"names": []}


async def with_context(ctx: TaskContext, number: int) -> int:
    """Take a context."""
    return ctx.attempt + number


def keyword_only(*, number: int = 3) -> int:
    """Take a keyword."""
    return number


def test_the_context_is_no_parameter() -> None:
    signature = spec(with_context).signature
    assert (signature.takes_context, signature.is_async) == (True, True)
    assert set(signature.params_schema["properties"]) == {"number"}
    assert wrong(with_context, b'{"ctx": 1, "number": 1}')


def test_def_and_keyword_only() -> None:
    signature = spec(keyword_only).signature
    assert (signature.takes_context, signature.is_async) == (False, False)
    assert keyword_only(**read(keyword_only, b'{"number": 4}')) == 4


def test_no_parameters_at_all() -> None:
    def task() -> None:
        """Take nothing."""

    assert read(task, b"{}") == {}
    assert wrong(task, b'{"a": 1}') == [(("params", "a"), "extra_forbidden")]
    Draft202012Validator.check_schema(spec(task).signature.params_schema)


# What cannot be a task.


def untyped(number) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - what is tested
    """Take what has no type."""


def no_result(number: int):  # type: ignore[no-untyped-def] # noqa: ANN201 - what is tested
    """Return who knows what."""


def many(*numbers: int) -> None:
    """Take any number."""


def named(**numbers: int) -> None:
    """Take any names."""


def positional(number: int, /) -> None:
    """Take no name."""


def unreadable(number: "Nowhere") -> None:  # type: ignore[name-defined] # noqa: F821 - what is tested
    """Take what is not there."""


def misspelt(number: "date.Nowhere") -> None:  # type: ignore[name-defined] # as above
    """Take what is not there."""


def half(number: "list[") -> None:  # type: ignore[valid-type] # noqa: F722 - as above
    """Take half an annotation."""


def callback(call: Callable[[], int]) -> None:
    """Take a function."""


def handle(file: socket.socket) -> None:
    """Take a socket."""


def late_context(number: int, ctx: TaskContext) -> None:
    """Take the context second."""


def returns_function() -> Callable[[], int]:
    """Return a function."""
    return int


def field_default(number: int = Field(5, gt=0)) -> None:
    """Take a field."""


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (untyped, "The parameter 'number' of the task 'test.task' has no type"),
        (no_result, "does not say what it returns"),
        (many, "'*numbers: int'"),
        (named, "'**numbers: int'"),
        (positional, "'number: int'"),
        (unreadable, "cannot be read: name 'Nowhere' is not defined"),
        (misspelt, "cannot be read"),
        (half, "cannot be read"),
        (callback, "JSON cannot carry"),
        (handle, "JSON cannot carry"),
        (late_context, "is not its first parameter"),
        (returns_function, "JSON cannot carry"),
        (field_default, "has a Field as its default"),
    ],
)
def test_what_cannot_be_a_task_is_told_with_the_cure(
    function: Callable[..., Any], told: str
) -> None:
    with pytest.raises(TaskDeclarationError) as caught:
        read_signature("test.task", function)
    assert told in caught.value.detail
    assert "'test.task'" in caught.value.detail
    assert caught.value.hint


# Results.


def result_of(annotation: Any) -> Signature:
    def task() -> None:
        """Return something."""

    task.__annotations__["return"] = annotation
    return read_signature("test.task", task)


@pytest.mark.parametrize(
    ("annotation", "value", "json"),
    [
        (int, 5, b"5"),
        (None, None, b"null"),
        (list[Point], [Point(1, 2)], b'[{"x":1,"y":2}]'),
        (Person, Person(name="A"), b'{"name":"A","born":null}'),
        (date, date(2026, 1, 31), b'"2026-01-31"'),
        (Colour, Colour.RED, b'"red"'),
        (int | None, None, b"null"),
        (dict[str, float], {"a": 0.5}, b'{"a":0.5}'),
        (Any, {"a": [1, "x"]}, b'{"a":[1,"x"]}'),
    ],
)
def test_a_result_becomes_json(annotation: Any, value: object, json: bytes) -> None:
    signature = result_of(annotation)
    assert encode_result(signature, value) == json
    schema = signature.result_schema
    assert schema["$schema"].endswith("2020-12/schema")
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(decode_result(json))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "5"),
        (int, None),
        (None, 5),
        (list[int], ["a"]),
        (Person, {"name": "A"}),
        (str, "\ud800"),
        (Any, object()),
    ],
)
def test_a_result_that_breaks_the_promise_is_refused(annotation: Any, value: object) -> None:
    with pytest.raises(TypeError, match="annotation promises"):
        encode_result(result_of(annotation), value)


def test_a_stored_document_has_any_shape() -> None:
    schema = result_of(StoredResult).result_schema
    assert Draft202012Validator(schema).is_valid({"whatever": [1]})


def test_an_integer_that_would_be_rounded_is_refused() -> None:
    assert decode_result(b"[9223372036854775807, -9223372036854775808]") == [2**63 - 1, -(2**63)]
    for digits in (b"9223372036854775808", b"1" * 5000):
        with pytest.raises(TypeError, match="64 bits"):
            decode_result(b"[" + digits + b"]")
