"""`register_task` records, and says at once what cannot be; each message carries the cure."""

from collections.abc import Callable
from typing import Any

import pytest

from app import register_task
from app.tasks.declaration import DECLARATION, TaskOptions
from app.tasks.errors import TaskDeclarationError


def declare(name: Any = "test.one", **options: Any) -> TaskOptions:
    @register_task(name, **options)
    def task() -> None:
        """Do nothing."""

    options_of: TaskOptions = getattr(task, DECLARATION)
    return options_of


def refused(name: Any = "test.one", **options: Any) -> TaskDeclarationError:
    with pytest.raises(TaskDeclarationError) as caught:
        declare(name, **options)
    return caught.value


def test_the_function_stays_what_it_was() -> None:
    def double(number: int) -> int:
        return number * 2

    decorated = register_task("test.double")(double)
    assert decorated is double
    assert decorated(4) == 8


def test_what_is_not_said_has_a_default() -> None:
    assert declare() == TaskOptions(name="test.one")
    assert (declare().queue, declare().max_attempts, declare().on_failure) == (
        "default",
        3,
        "dead_letter",
    )


def test_what_is_said_is_kept() -> None:
    given: dict[str, Any] = {
        "queue": "slow_1",
        "priority": 0,
        "max_attempts": 100,
        "backoff_seconds": 0,
        "backoff_max_seconds": 0.5,
        "jitter": 1,
        "retry_on": [OSError, KeyError],
        "timeout_seconds": 86_400,
        "required_scope": "reports:run",
        "on_failure": "discard",
        "version": "7",
        "aliases": ["test.old", "older.name"],
        "deprecated": True,
    }
    declared = declare(**given)
    wanted = {
        key: tuple(value) if isinstance(value, list) else value for key, value in given.items()
    }
    assert {key: getattr(declared, key) for key in given} == wanted


def test_one_error_class_stands_for_a_tuple_of_it() -> None:
    assert declare(retry_on=OSError).retry_on == (OSError,)


@pytest.mark.parametrize(
    "name",
    ["", "one", "test.", ".one", "test..one", "Test.one", "test.One", "test.on e", "test.one-two",
     "test.1one", "../x", "os.système", "test.one\n", "test/one", "t" * 198 + ".ab", 5, None],
)  # fmt: skip
def test_a_name_is_plugin_dot_verb_noun(name: Any) -> None:
    assert "is not a task name" in refused(name).detail
    assert "is not a task name" in refused(aliases=(name,)).detail


@pytest.mark.parametrize("name", ["text.count_words", "a.b.c_2", "_a._b"])
def test_names_that_are_fine(name: str) -> None:
    assert declare(name).name == name


def test_a_bad_name_is_shown_a_good_one() -> None:
    hint = refused("one").hint
    assert hint is not None
    assert "text.count_words" in hint


def test_a_decorator_without_brackets_is_told_the_form() -> None:
    def task() -> None: ...

    with pytest.raises(TaskDeclarationError, match=r"@register_task\('plugin\.verb_noun'\)"):
        register_task(task)  # type: ignore[arg-type] # the mistake that is tested


def test_an_unknown_option_is_named_and_the_known_ones_listed() -> None:
    detail = refused(max_atempts=5).detail
    assert "'max_atempts'" in detail
    assert "max_attempts" in detail.split("Known options:")[1]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("queue", ""),
        ("queue", "Slow"),
        ("queue", "größe"),
        ("queue", "1st"),
        ("queue", "a" * 64),
        ("queue", "a.b"),
        ("queue", 5),
        ("priority", -1),
        ("priority", 10),
        ("priority", True),
        ("priority", 5.0),
        ("priority", "high"),
        ("max_attempts", 0),
        ("max_attempts", 101),
        ("max_attempts", 2.5),
        ("backoff_seconds", -1),
        ("backoff_seconds", "1"),
        ("backoff_seconds", float("nan")),
        ("backoff_seconds", 301),
        ("backoff_max_seconds", float("inf")),
        ("jitter", 1.1),
        ("jitter", -0.1),
        ("retry_on", ValueError("an instance")),
        ("retry_on", ["ValueError"]),
        ("retry_on", int),
        ("timeout_seconds", 0),
        ("timeout_seconds", 86_401),
        ("timeout_seconds", None),
        ("required_scope", 5),
        ("required_scope", ""),
        ("on_failure", "ignore"),
        ("version", 2),
        ("aliases", "test.old"),
        ("deprecated", 1),
    ],
)
def test_an_option_that_cannot_be_is_named_with_its_value(option: str, value: Any) -> None:
    detail = refused(**{option: value}).detail
    assert "'test.one'" in detail
    assert f"{option}=" in detail


def test_a_function_is_one_task() -> None:
    def task() -> None: ...

    decorate: Callable[..., Any] = register_task("test.one")
    with pytest.raises(TaskDeclarationError, match=r"'test\.one' already") as caught:
        register_task("test.two")(decorate(task))
    assert caught.value.hint is not None
    assert "aliases=('test.one',)" in caught.value.hint
