"""`@register_task` only records; loading a plugin makes a task of the record."""

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeVar

from app.tasks.errors import TaskDeclarationError
from app.tasks.rates import is_rate
from app.tasks.schedule_declaration import Schedule, read_declared

Function = TypeVar("Function", bound=Callable[..., Any])
OnFailure = Literal["dead_letter", "discard"]
DECLARATION = "__taskyard_task__"


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """What `register_task` was given. Times in seconds; `priority` 0 (low) to 9 (high).

    `rate_limit` ("100/m": attempts per s, m or h) and `max_concurrency` hold over all workers,
    for the whole task or, with `concurrency_key`, for each of its keys: the name of a parameter
    ("customer") or a template of several ("{host}:{port}").
    """

    name: str
    queue: str = "default"
    priority: int = 5
    max_attempts: int = 3
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 300.0
    jitter: float = 0.25
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    timeout_seconds: float = 300.0
    rate_limit: str | None = None
    max_concurrency: int | None = None
    concurrency_key: str | None = None
    required_scope: str | None = None
    unique_for_seconds: float | None = None
    on_failure: OnFailure = "dead_letter"
    version: str = "1"
    aliases: tuple[str, ...] = ()
    deprecated: bool = False
    schedule: tuple[Schedule, ...] = ()
    retention_days: float | None = None


def register_task(name: str, **options: Any) -> Callable[[Function], Function]:
    """Declare a typed function as the task `name` ("plugin.verb_noun"); options as in
    `TaskOptions`.

    The function is returned unchanged and stays callable. Raises
    TaskDeclarationError at once for an option that does not exist or cannot be.
    """
    declared = _options(name, options)

    def record(function: Function) -> Function:
        _check_function(name, function)
        if hasattr(function, DECLARATION):
            other = getattr(function, DECLARATION).name
            raise TaskDeclarationError(
                f"{function.__qualname__} is '{other}' already and cannot be '{name}' too.",
                hint=f"For a renamed task write aliases=('{other}',) on one registration.",
            )
        setattr(function, DECLARATION, declared)
        return function

    return record


def _check_function(name: str, function: Callable[..., Any]) -> None:
    if isinstance(function, staticmethod | classmethod) or not inspect.isroutine(function):
        raise TaskDeclarationError(
            f"The task '{name}' is no function but {function!r:.100}.",
            hint="Decorate a function at the top level of tasks.py, the decorator on top.",
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TaskDeclarationError(
            f"The task '{name}' ({function.__qualname__}) yields, and a task has one result.",
            hint="Return a list, or submit a child run for each part with ctx.submit(...).",
        )


def _options(name: str, options: dict[str, Any]) -> TaskOptions:
    if callable(name):
        raise TaskDeclarationError(
            "register_task needs a name: @register_task('plugin.verb_noun').",
            hint="Write the parentheses with the task's name in them.",
        )
    from_user = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    if isinstance(from_user.get("retry_on"), type):
        from_user["retry_on"] = (from_user["retry_on"],)
    unknown = sorted(set(from_user) - set(TaskOptions.__slots__))
    if unknown:
        known = sorted(set(TaskOptions.__slots__) - {"name"})
        near = difflib.get_close_matches(unknown[0], known, n=1, cutoff=0.5)
        raise TaskDeclarationError(
            f"The task '{name}' has the unknown option '{unknown[0]}'. "
            f"Known options: {', '.join(known)}.",
            hint=f"Did you mean '{near[0]}'?" if near else "Leave it out.",
        )
    if "schedule" in from_user:
        from_user["schedule"] = read_declared(name, from_user["schedule"])
    declared = TaskOptions(name=name, **dict[str, Any](from_user))
    _check(declared)
    return declared


_QUEUE = re.compile(r"[a-z][a-z0-9_]{0,62}")


def _is_number(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and _is_number(value, low, high)


def _are_errors(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(error, type) and issubclass(error, BaseException) for error in value
    )


# The first that a value breaks is told, so a limit comes after what it is compared with.
_RULES: dict[str, Callable[[Any], bool]] = {
    "queue": lambda value: isinstance(value, str) and _QUEUE.fullmatch(value) is not None,
    "priority": lambda value: _is_whole(value, 0, 9),
    "max_attempts": lambda value: _is_whole(value, 1, 100),
    "backoff_max_seconds": lambda value: _is_number(value, 0, 31_536_000),
    "backoff_seconds": lambda value: _is_number(value, 0, 31_536_000),
    "jitter": lambda value: _is_number(value, 0, 1),
    "retry_on": _are_errors,
    "timeout_seconds": lambda value: _is_number(value, 0.001, 86_400),
    "rate_limit": lambda value: value is None or (isinstance(value, str) and is_rate(value)),
    "max_concurrency": lambda value: value is None or _is_whole(value, 1, 100_000),
    "concurrency_key": lambda value: value is None or (isinstance(value, str) and value != ""),
    "required_scope": lambda value: value is None or (isinstance(value, str) and value != ""),
    "unique_for_seconds": lambda value: value is None or _is_number(value, 0.001, 31_536_000),
    "on_failure": lambda value: value in ("dead_letter", "discard"),
    "version": lambda value: isinstance(value, str) and 1 <= len(value) <= 64,
    "aliases": lambda value: isinstance(value, tuple),
    "deprecated": lambda value: isinstance(value, bool),
    "retention_days": lambda value: value is None or _is_number(value, 0.01, 36_500),
}


_TAKES = {
    "queue": "the name of a queue class: a to z, 0 to 9 and _, such as 'default'",
    "priority": "a whole number from 0 (low) to 9 (high)",
    "max_attempts": "a whole number from 1 to 100",
    "backoff_seconds": "a number of seconds, such as 2.5",
    "backoff_max_seconds": "a number of seconds, such as 300",
    "jitter": "a number from 0 to 1",
    "rate_limit": "text such as '10/s' or '100/m'",
    "max_concurrency": "a whole number from 1 up",
    "concurrency_key": "the name of a parameter, beside max_concurrency or rate_limit",
    "retry_on": "an exception class, or a tuple of them: retry_on=(OSError, TimeoutError)",
    "timeout_seconds": "a number of seconds up to 86400 (a timedelta has .total_seconds())",
    "on_failure": "'dead_letter' or 'discard'",
    "version": "text, such as version='2'",
    "aliases": "a tuple of the older names: aliases=('text.count',)",
    "deprecated": "True or False",
    "required_scope": "text, such as 'reports:write'",
}


def _check(options: TaskOptions) -> None:
    _check_name(options.name)
    for option, holds in _RULES.items():
        if not holds(getattr(options, option)):
            _refuse(options, option, "which is out of range or of the wrong type")
    if options.backoff_seconds > options.backoff_max_seconds:
        _refuse(options, "backoff_seconds", "which is more than backoff_max_seconds")
    if options.concurrency_key and not (options.rate_limit or options.max_concurrency):
        _refuse(options, "concurrency_key", "but neither max_concurrency nor rate_limit")
    for alias in options.aliases:
        _check_name(alias)


def _refuse(options: TaskOptions, option: str, why: str) -> NoReturn:
    value = getattr(options, option)
    raise TaskDeclarationError(
        f"The task '{options.name}' has {option}={value!r}, {why}.",
        hint=f"{option} takes {_TAKES[option]}.",
    )


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TaskDeclarationError(
            f"{name!r} is not a task name: a name is text.",
            hint="Write 'plugin.verb_noun' in lower case, like 'text.count_words'.",
        )
    plugin, dot, verb = name.partition(".")
    parts_are_names = all(
        part.isascii() and part.isidentifier() and part == part.lower()
        for part in (plugin, *verb.split("."))
    )
    if not dot or not parts_are_names or len(name) > 200:
        raise TaskDeclarationError(
            f"'{name}' is not a task name.",
            hint="Write 'plugin.verb_noun' in lower case, like 'text.count_words'.",
        )
