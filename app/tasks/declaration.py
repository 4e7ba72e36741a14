"""`@register_task` only records; loading a plugin makes a task of the record."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from app.tasks.errors import TaskDeclarationError

Function = TypeVar("Function", bound=Callable[..., Any])
OnFailure = Literal["dead_letter", "discard"]
DECLARATION = "__taskyard_task__"
_NOT_ENFORCED_YET = {
    "rate_limit",
    "max_concurrency",
    "concurrency_key",
    "unique_for_seconds",
    "schedule",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskOptions:
    """What `register_task` was given. Times in seconds; `priority` 0 (low) to 9 (high)."""

    name: str
    queue: str = "default"
    priority: int = 5
    max_attempts: int = 3
    backoff_seconds: float = 1.0
    backoff_max_seconds: float = 300.0
    jitter: float = 0.25
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    timeout_seconds: float = 300.0
    required_scope: str | None = None
    on_failure: OnFailure = "dead_letter"
    version: str = "1"
    aliases: tuple[str, ...] = ()
    deprecated: bool = False


def register_task(name: str, **options: Any) -> Callable[[Function], Function]:
    """Declare a typed function as the task `name` ("plugin.verb_noun"); options as in
    `TaskOptions`.

    The function is returned unchanged and stays callable. Raises
    TaskDeclarationError at once for an option that does not exist or cannot be.
    """
    declared = _options(name, options)

    def record(function: Function) -> Function:
        if hasattr(function, DECLARATION):
            other = getattr(function, DECLARATION).name
            raise TaskDeclarationError(
                f"{function.__qualname__} is '{other}' already and cannot be '{name}' too.",
                hint=f"For a renamed task write aliases=('{other}',) on one registration.",
            )
        setattr(function, DECLARATION, declared)
        return function

    return record


def _options(name: str, options: dict[str, Any]) -> TaskOptions:
    if callable(name):
        raise TaskDeclarationError(
            "register_task needs a name: @register_task('plugin.verb_noun')."
        )
    from_user = {
        key: tuple(value) if isinstance(value, list) else value for key, value in options.items()
    }
    unknown = sorted(set(from_user) - set(TaskOptions.__slots__))
    if unknown and unknown[0] in _NOT_ENFORCED_YET:
        raise TaskDeclarationError(
            f"The task '{name}' asks for '{unknown[0]}', which this version does not enforce.",
            hint="Leave it out: a limit that silently does nothing is worse than none.",
        )
    if unknown:
        known = ", ".join(sorted(set(TaskOptions.__slots__) - {"name"}))
        raise TaskDeclarationError(
            f"The task '{name}' has the unknown option '{unknown[0]}'. Known options: {known}."
        )
    declared = TaskOptions(name=name, **dict[str, Any](from_user))
    _check(declared)
    return declared


def _check(options: TaskOptions) -> None:
    for name in (options.name, *options.aliases):
        _check_name(name)
    rules = {
        "queue": options.queue.replace("_", "a").isalnum()
        and options.queue == options.queue.lower(),
        "priority": 0 <= options.priority <= 9,
        "max_attempts": 1 <= options.max_attempts <= 100,
        "backoff_seconds": 0 <= options.backoff_seconds <= options.backoff_max_seconds,
        "jitter": 0 <= options.jitter <= 1,
        "timeout_seconds": 0 < options.timeout_seconds <= 86_400,
        "on_failure": options.on_failure in ("dead_letter", "discard"),
    }
    for option, holds in rules.items():
        if not holds:
            value = getattr(options, option)
            raise TaskDeclarationError(
                f"The task '{options.name}' has {option}={value!r}, which is out of range."
            )


def _check_name(name: str) -> None:
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
