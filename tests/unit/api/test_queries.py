from typing import Annotated

import pytest
from fastapi import APIRouter, Depends, Query
from fastapi.routing import APIRoute
from pydantic import BaseModel, Field
from starlette.datastructures import QueryParams

from app.api.queries import QueryRules, accepts_query_prefix, check_path_values
from app.common.errors import NotFound, ValidationFailed

router = APIRouter()


class Filters(BaseModel):
    text: str | None = Field(None, alias="q")
    tags: list[str] = []


def paging(limit: int = 50) -> int:
    return limit


@router.get("/all")
@accepts_query_prefix("label.")
async def list_all(
    filters: Annotated[Filters, Query()],
    page: Annotated[int, Depends(paging)],
    *,
    flag: bool = False,
) -> None: ...


@router.get("/plain")
async def list_plain(status: Annotated[list[str] | None, Query()] = None) -> None: ...


def _rules(index: int) -> QueryRules:
    route = router.routes[index]
    assert isinstance(route, APIRoute)
    return QueryRules.of(route.dependant)


def _faults(index: int, query: str) -> list[tuple[object, str]]:
    try:
        _rules(index).check(QueryParams(query))
    except ValidationFailed as error:
        return [(fault.loc[-1], fault.type) for fault in error.errors]
    return []


@pytest.mark.parametrize(
    "query", ["", "q=a&limit=1&tags=a&tags=b", "label.a=1&label.b=2", "flag=1"]
)
def test_known_parameters_pass(query: str) -> None:
    assert _faults(0, query) == []


@pytest.mark.parametrize(
    ("query", "fault"),
    [
        ("nope=1", ("nope", "unknown_parameter")),
        ("text=1", ("text", "unknown_parameter")),
        ("labels=1", ("labels", "unknown_parameter")),
        ("q=a&q=b", ("q", "repeated_parameter")),
        ("label.a=1&label.a=2", ("label.a", "repeated_parameter")),
        ("q=a%00", ("q", "invalid_text")),
        ("q=" + "a" * 2049, ("q", "string_too_long")),
    ],
)
def test_each_wrong_parameter_has_an_entry(query: str, fault: tuple[str, str]) -> None:
    assert _faults(0, query) == [fault]


def test_a_list_may_be_repeated_and_a_stranger_not() -> None:
    assert _faults(1, "status=A&status=B") == []
    assert _faults(1, "label.a=1") == [("label.a", "unknown_parameter")]


def test_the_hint_lists_what_is_known() -> None:
    with pytest.raises(ValidationFailed) as raised:
        _rules(0).check(QueryParams("nope=1"))
    assert raised.value.hint == "Known parameters: flag, label.*, limit, q, tags."


@pytest.mark.parametrize("value", ["a\x00b", "a\nb", "a" * 600, "\x1b[31m"])
def test_a_path_that_nothing_can_have_is_404(value: str) -> None:
    with pytest.raises(NotFound):
        check_path_values({"task_id": value})


def test_an_ordinary_path_passes() -> None:
    check_path_values({"task_id": "text.count_words", "number": 7})
