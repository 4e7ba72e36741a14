"""The registry: every task that the plugins declare, by name and alias."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from app.common.errors import FieldError
from app.common.strict_json import dump_bytes
from app.config.plugins import LoadedPlugin
from app.tasks.declaration import DECLARATION, TaskOptions
from app.tasks.errors import (
    DuplicateTaskError,
    InvalidParams,
    TaskDeclarationError,
    TaskNotRegistered,
)
from app.tasks.limits import Limits, limits_of
from app.tasks.retry import Backoff
from app.tasks.signature import Signature, read_signature


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A registered task: the function, its options, its signature and the plugin that it belongs
    to.
    """

    name: str
    plugin: str
    function: Callable[..., Any]
    description: str
    options: TaskOptions
    signature: Signature

    @property
    def limits(self) -> Limits | None:
        """What bounds its attempts over all workers; None for no bound."""
        options = self.options
        if options.rate_limit is None and options.max_concurrency is None:
            return None
        return limits_of(options, self.signature.parameter_names)

    @property
    def backoff(self) -> Backoff:
        """The waits between attempts."""
        return Backoff(
            self.options.backoff_seconds, self.options.backoff_max_seconds, self.options.jitter
        )

    def read_params(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments for the function; InvalidParams has one entry per wrong field.

        Strict JSON rules: no text for a number, no number for a boolean, no unknown name.
        """
        return self.signature.arguments(self.check(dump_bytes(params)))

    def check(self, document: bytes) -> BaseModel:
        """Return the model of parameters that are JSON text; raises as `read_params`."""
        try:
            return self.signature.params_model.model_validate_json(document, strict=True)
        except ValidationError as error:
            raise InvalidParams(
                f"The parameters of '{self.name}' are wrong.", errors=_field_errors(error)
            ) from None


class Registry:
    """The tasks of one installation. It is built once at boot and never changes."""

    def __init__(self, specs: Iterable[TaskSpec], extra_queues: Iterable[str] = ()) -> None:
        self._specs: dict[str, TaskSpec] = {}
        self._by_name: dict[str, TaskSpec] = {}
        self._extra_queues = tuple(extra_queues)
        for spec in specs:
            self._add(spec)

    def get(self, name: str) -> TaskSpec:
        """Return the task of this name or alias; TaskNotRegistered tells the near names."""
        spec = self._by_name.get(name)
        if spec is None:
            raise TaskNotRegistered(
                f"No task is called '{name[:200]}'.", hint=missing_hint(name[:200], self._by_name)
            )
        return spec

    def find(self, name: str) -> TaskSpec | None:
        """Return the task of this name or alias, or None."""
        return self._by_name.get(name)

    def specs(self) -> list[TaskSpec]:
        """Return all tasks, sorted by name."""
        return [self._specs[name] for name in sorted(self._specs)]

    def names(self) -> list[str]:
        """Return all names and aliases, sorted: what a worker must listen to."""
        return sorted(self._by_name)

    def queues(self) -> list[str]:
        """Return the classes of queues that tasks or settings name, sorted."""
        return sorted(
            {spec.options.queue for spec in self._specs.values()} | set(self._extra_queues)
        )

    def _add(self, spec: TaskSpec) -> None:
        for name in (spec.name, *spec.options.aliases):
            other = self._by_name.get(name)
            if other is not None:
                raise DuplicateTaskError(
                    f"The name '{name}' is claimed by {_place(other)} and by {_place(spec)}.",
                    hint="Rename one of them; a renamed task keeps its old name in aliases=.",
                )
            self._by_name[name] = spec
        self._specs[spec.name] = spec


def build_registry(plugins: Iterable[LoadedPlugin], extra_queues: Iterable[str] = ()) -> Registry:
    """Return the registry of the plugins' tasks; a load error stops the boot and names
    the plugin.
    """
    specs = []
    for plugin in plugins:
        module = plugin.load("tasks")
        if module is not None:
            try:
                specs.extend(_specs_in(module, plugin))
            except TaskDeclarationError as error:
                raise TaskDeclarationError(
                    f"In the plugin '{plugin.name}': {error.detail}", hint=error.hint
                ) from error
    return Registry(specs, extra_queues)


def near_hint(name: str, known: Iterable[str]) -> str | None:
    """Return a sentence with the names most like the given one, or None."""
    near = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    return f"Did you mean {' or '.join(repr(match) for match in near)}?" if near else None


def missing_hint(name: str, known: Iterable[str]) -> str:
    """Return a sentence that helps who asked for a task that is not there."""
    known = list(known)
    near = near_hint(name, known)
    plugin = name.partition(".")[0][:63]
    if near or any(other.startswith(f"{plugin}.") for other in known):
        return near or f"GET /api/v1/tasks/registered lists the tasks of '{plugin}'."
    return f"No loaded plugin has tasks called '{plugin}.…': is it named in the setting 'plugins'?"


def spec_of(function: Callable[..., Any], plugin: str) -> TaskSpec:
    """Return the task that a decorated function declares."""
    options: TaskOptions = getattr(function, DECLARATION)
    description = (function.__doc__ or "").strip().splitlines()
    spec = TaskSpec(
        name=options.name,
        plugin=plugin,
        function=function,
        description=description[0].strip() if description else "",
        options=options,
        signature=read_signature(options.name, function),
    )
    _ = spec.limits  # A key of a parameter that is not there stops the boot.
    _check_schedules(spec)
    return spec


def _check_schedules(spec: TaskSpec) -> None:
    """Raise TaskDeclarationError for a schedule whose runs would be refused at each fire time."""
    for schedule in spec.options.schedule:
        try:
            spec.read_params(schedule.params)
        except InvalidParams as error:
            faults = "; ".join(
                f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in error.errors
            )
            raise TaskDeclarationError(
                f"A schedule of the task '{spec.name}' has wrong parameters: {faults}.",
                hint="Give what the function needs: Schedule(params={…}, …).",
            ) from None


def _specs_in(module: ModuleType, plugin: LoadedPlugin) -> list[TaskSpec]:
    # Only functions of the plugin itself count: an imported one belongs to another plugin.
    functions = [
        value
        for value in vars(module).values()
        if isinstance(getattr(value, DECLARATION, None), TaskOptions)
        and f"{value.__module__}.".startswith(f"{plugin.module}.")
    ]
    return [_placed_spec(function, plugin.name) for function in dict.fromkeys(functions)]


def _placed_spec(function: Callable[..., Any], plugin: str) -> TaskSpec:
    """Return the task of a function; what is wrong with it is told with its file and line."""
    try:
        spec = spec_of(function, plugin)
        if not spec.description:
            raise TaskDeclarationError(
                f"The task '{spec.name}' has no docstring.",
                hint="Its first line is the description that users see.",
            )
    except TaskDeclarationError as error:
        code = inspect.unwrap(function).__code__
        place = f"{function.__qualname__} in {code.co_filename}, line {code.co_firstlineno}"
        raise TaskDeclarationError(f"{error.detail} ({place})", hint=error.hint) from error
    return spec


def _place(spec: TaskSpec) -> str:
    return f"{spec.function.__module__}.{spec.function.__qualname__} (plugin '{spec.plugin}')"


def _field_errors(error: ValidationError) -> list[FieldError]:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    return [FieldError(("params", *fault["loc"]), fault["msg"], fault["type"]) for fault in faults]
