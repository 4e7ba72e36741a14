"""Derived tasks: presets over a code task, kept in the database, usable at once everywhere."""

from collections.abc import Callable
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from app import register_task
from app.common.errors import Forbidden
from app.tasks.catalogue import CatalogueEntry
from app.tasks.errors import (
    InvalidOptions,
    InvalidParams,
    TaskAlreadyRegistered,
    TaskInUse,
    TaskNotRegistered,
)
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]


class Place(BaseModel):
    x: int
    y: int


@register_task("test.report", queue="slow", timeout_seconds=9, aliases=("test.old_report",))
async def report(kind: str, day: int, place: Place | None = None, top: int = 3) -> list[Any]:
    """Write a report."""
    return [kind, day, place.x if place else None, top]


@register_task("test.vault", required_scope="vault:open")
async def vault(number: int = 1) -> int:
    """Open the vault."""
    return number


def derive(yard: Installation, name: str = "test.weekly", **more: Any) -> CatalogueEntry:
    given = {"base_task": "test.report", "params": {"kind": "weekly"}, **more}
    return yard.run(yard.services.catalogue.register(name=name, created_by="somebody", **given))


def get(yard: Installation, name: str) -> CatalogueEntry:
    return yard.run(yard.services.catalogue.get(name))


def names(yard: Installation) -> list[str]:
    return [entry.name for entry in yard.run(yard.services.catalogue.list())]


def test_a_code_task_is_shown_as_it_is(install: Install) -> None:
    entry = get(install(report), "test.report")
    assert (entry.kind, entry.base_task, entry.description) == ("code", None, "Write a report.")
    assert entry.params_schema["required"] == ["kind", "day"]


def test_a_derived_task_asks_only_for_what_is_not_preset(install: Install) -> None:
    yard = install(report)
    made = derive(yard, params={"kind": "weekly", "top": 5}, description="By week.")
    for entry in (made, get(yard, "test.weekly")):
        assert (entry.kind, entry.base_task, entry.description) == (
            "derived",
            "test.report",
            "By week.",
        )
        schema = entry.params_schema
        Draft202012Validator.check_schema(schema)
        assert set(schema["properties"]) == {"day", "place"}
        assert schema["required"] == ["day"]
        assert Draft202012Validator(schema).is_valid({"day": 1})
        assert not Draft202012Validator(schema).is_valid({"day": 1, "kind": "x"})


def test_without_presets_the_schema_is_that_of_the_base(install: Install) -> None:
    yard = install(report)
    entry = derive(yard, params={})
    assert entry.params_schema == get(yard, "test.report").params_schema
    assert entry.description == "Write a report."


def test_presets_win_over_the_caller(install: Install) -> None:
    yard = install(report)
    derive(yard, params={"kind": "weekly", "top": 5})
    run_id = yard.submit("test.weekly", {"kind": "mine", "day": 1, "top": 9}).task_id
    row = yard.row(run_id)
    assert (row.task, row.function) == ("test.weekly", "test.report")
    assert row.params == {"kind": "weekly", "day": 1, "top": 5}
    yard.deliver(run_id)
    assert yard.row(run_id).result == ["weekly", 1, None, 5]


def test_what_is_not_preset_is_still_checked(install: Install) -> None:
    yard = install(report)
    derive(yard)
    with pytest.raises(InvalidParams):
        yard.submit("test.weekly", {})
    with pytest.raises(InvalidParams):
        yard.submit("test.weekly", {"day": "1"})


def test_preset_options_take_the_place_of_the_tasks(install: Install) -> None:
    yard = install(report)
    options = {
        "queue": "default",
        "priority": 1,
        "max_attempts": 7,
        "backoff_seconds": 2,
        "backoff_max_seconds": 4.5,
        "timeout_seconds": 5,
    }
    entry = derive(yard, options=options)
    assert {name: getattr(entry.options, name) for name in options} == options
    row = yard.row(yard.submit("test.weekly", {"day": 1}).task_id)
    assert (row.queue, row.priority, row.max_attempts) == ("default", 1, 7)
    assert row.options["timeout_seconds"] == 5
    assert row.options["backoff_max_seconds"] == 4.5
    row = yard.row(yard.submit("test.weekly", {"day": 1}, options={"priority": 9}).task_id)
    assert row.priority == 9
    # The base stays what it was.
    assert yard.row(yard.submit("test.report", {"kind": "a", "day": 1}).task_id).queue == "slow"


def test_it_is_usable_at_once_in_another_process(install: Install) -> None:
    one, other = install(report), install(report)
    assert "test.weekly" not in names(other)
    derive(one)
    assert names(other) == ["test.report", "test.weekly"]
    run_id = other.submit("test.weekly", {"day": 1}).task_id
    one.deliver(run_id)
    assert one.row(run_id).status == "SUCCEEDED"
    one.run(one.services.catalogue.delete("test.weekly"))
    with pytest.raises(TaskNotRegistered):
        other.submit("test.weekly", {"day": 1})


def test_a_run_outlives_its_derived_task(install: Install) -> None:
    yard = install(report)
    derive(yard)
    run_id = yard.submit("test.weekly", {"day": 1}).task_id
    yard.run(yard.services.catalogue.delete("test.weekly"))
    yard.deliver(run_id)
    assert yard.row(run_id).result == ["weekly", 1, None, 3]


def test_a_name_is_taken_once(install: Install) -> None:
    yard = install(report)
    derive(yard)
    for name in ("test.weekly", "test.report", "test.old_report"):
        with pytest.raises(TaskAlreadyRegistered):
            derive(yard, name, params={"kind": "other"})
    assert get(yard, "test.weekly").preset_params == {"kind": "weekly"}


def test_the_base_is_a_task_of_code(install: Install) -> None:
    yard = install(report)
    derive(yard)
    for base in ("test.nothing", "test.weekly"):
        with pytest.raises(TaskNotRegistered):
            derive(yard, "test.more", base_task=base)
    assert derive(yard, "test.more", base_task="test.old_report").base_task == "test.report"


@pytest.mark.parametrize(
    ("params", "loc"),
    [
        ({"kind": 5}, ("params", "kind")),
        ({"unknown": 1}, ("params", "unknown")),
        ({"place": {"x": 1}}, ("params", "place", "y")),
        ({"place": {"x": 1, "y": "2"}}, ("params", "place", "y")),
        ({"top": True}, ("params", "top")),
    ],
)
def test_presets_keep_the_schema_of_the_base(
    install: Install, params: dict[str, Any], loc: tuple[str, ...]
) -> None:
    yard = install(report)
    with pytest.raises(InvalidParams) as caught:
        derive(yard, params=params)
    # Parameters that the caller will give are no faults.
    assert [fault.loc for fault in caught.value.errors] == [loc]
    assert names(yard) == ["test.report"]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"queue": "nowhere"}, "queue"),
        ({"queue": "../x"}, "queue"),
        ({"priority": 10}, "priority"),
        ({"priority": "1"}, "priority"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"timeout_seconds": 86_401}, "timeout_seconds"),
        ({"timeout_seconds": float("nan")}, "timeout_seconds"),
        ({"backoff_seconds": -1}, "backoff_seconds"),
        ({"backoff_max_seconds": float("inf")}, "backoff_max_seconds"),
        ({"required_scope": "admin"}, "required_scope"),
    ],
)
def test_preset_options_are_checked(install: Install, options: dict[str, Any], name: str) -> None:
    yard = install(report)
    with pytest.raises(InvalidOptions) as caught:
        derive(yard, options=options)
    assert [fault.loc for fault in caught.value.errors] == [("options", name)]
    assert names(yard) == ["test.report"]


def test_the_scope_of_the_base_is_asked_for(install: Install) -> None:
    yard = install(vault)
    derive(yard, "test.safe", base_task="test.vault", params={"number": 5})
    with pytest.raises(Forbidden):
        yard.submit("test.safe", caller=Somebody(scopes=frozenset({"tasks:run"})))


def test_only_derived_tasks_can_be_deleted(install: Install) -> None:
    yard = install(report)
    derive(yard)
    with pytest.raises(TaskInUse):
        yard.run(yard.services.catalogue.delete("test.report"))
    yard.run(yard.services.catalogue.delete("test.weekly"))
    with pytest.raises(TaskNotRegistered):
        yard.run(yard.services.catalogue.delete("test.weekly"))
    assert derive(yard).name == "test.weekly"


def test_a_derived_task_without_its_base_is_not_there(install: Install) -> None:
    derive(install(report))
    without = install(vault)
    assert names(without) == ["test.vault"]
    with pytest.raises(TaskNotRegistered):
        without.submit("test.weekly", {"day": 1})


def test_code_that_takes_a_derived_name_wins(install: Install) -> None:
    derive(install(report))

    @register_task("test.weekly")
    async def weekly() -> str:
        """Be code now."""
        return "code"

    yard = install(report, weekly)
    assert names(yard) == ["test.report", "test.weekly"]
    assert get(yard, "test.weekly").kind == "code"


def test_derived_names_are_told_as_near(install: Install) -> None:
    yard = install(report)
    derive(yard)
    with pytest.raises(TaskNotRegistered) as caught:
        get(yard, "test.weakly")
    assert caught.value.hint is not None
    assert "'test.weekly'" in caught.value.hint


@pytest.mark.parametrize("name", ["a\x00b", "x" * 10_000, "\ud800", "", "%", "a\nb"])
def test_a_name_that_cannot_be_is_not_registered(install: Install, name: str) -> None:
    yard = install(report)
    with pytest.raises(TaskNotRegistered) as caught:
        get(yard, name)
    assert len(caught.value.detail) < 1000
    with pytest.raises(TaskNotRegistered):
        yard.run(yard.services.catalogue.delete(name))
