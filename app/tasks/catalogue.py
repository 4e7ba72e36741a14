"""The catalogue: code tasks from the registry and derived tasks from the database, under
one roof.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import delete, insert, select
from sqlalchemy.engine import Row
from sqlalchemy.exc import IntegrityError

from app.common.errors import FieldError
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.declaration import TaskOptions
from app.tasks.errors import (
    InvalidOptions,
    InvalidParams,
    TaskAlreadyRegistered,
    TaskInUse,
    TaskNotRegistered,
)
from app.tasks.models import DerivedTask
from app.tasks.registry import Registry, TaskSpec, missing_hint
from app.tasks.requests import QueueName

MAX_NAME = 200
_NAMES_PER_LOOK = 500


class DerivedOptions(BaseModel):
    """The options that a derived task may preset; times in seconds."""

    model_config = ConfigDict(extra="forbid", strict=True)

    queue: QueueName | None = None
    priority: Annotated[int, Field(ge=0, le=9)] | None = None
    max_attempts: Annotated[int, Field(ge=1, le=100)] | None = None
    backoff_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    backoff_max_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=86_400)] | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """A task as callers see it: a code task, or a derived one with its presets."""

    name: str
    spec: TaskSpec
    description: str
    options: TaskOptions
    base_task: str | None = None
    preset_params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        """`code` or `derived`."""
        return "code" if self.base_task is None else "derived"

    @property
    def params_schema(self) -> dict[str, Any]:
        """The JSON Schema of what the caller gives: preset parameters are no longer asked for."""
        schema = self.spec.signature.params_schema
        if not self.preset_params:
            return schema
        properties = {
            name: part
            for name, part in schema.get("properties", {}).items()
            if name not in self.preset_params
        }
        required = [name for name in schema.get("required", []) if name not in self.preset_params]
        return {**schema, "properties": properties, "required": required}


class Catalogue:
    """Looks tasks up by name and keeps the derived ones."""

    def __init__(self, databases: Databases, registry: Registry) -> None:
        self._databases = databases
        self._registry = registry

    async def get(self, name: str) -> CatalogueEntry:
        """Return the task of this name; TaskNotRegistered tells the near names."""
        if (spec := self._registry.find(name)) is not None:
            return entry_of(spec)
        if not _can_be_called(name):
            # What no row can be called never reaches the database, which refuses a NUL.
            raise TaskNotRegistered(f"No task is called {name[:MAX_NAME]!r}.")
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            row = (
                await connection.execute(
                    select(DerivedTask.__table__).where(DerivedTask.name == name)
                )
            ).one_or_none()
            if row is not None and self._registry.find(row.base_task) is not None:
                return self._derived(row)
            names = (await connection.execute(select(DerivedTask.name))).scalars()
            known = [*self._registry.names(), *names]
        raise TaskNotRegistered(f"No task is called '{name}'.", hint=missing_hint(name, known))

    async def find_all(self, names: Iterable[str]) -> dict[str, CatalogueEntry]:
        """Return the tasks of these names; a name that no task has is left out."""
        wanted = set(names)
        specs = {name: self._registry.find(name) for name in wanted}
        found = {name: entry_of(spec) for name, spec in specs.items() if spec is not None}
        # What no row can be called never reaches the database.
        derived = sorted(name for name in wanted - set(found) if _can_be_called(name))
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            for start in range(0, len(derived), _NAMES_PER_LOOK):
                part = derived[start : start + _NAMES_PER_LOOK]
                rows = await connection.execute(
                    select(DerivedTask.__table__).where(DerivedTask.name.in_(part))
                )
                for row in rows:
                    if self._registry.find(row.base_task) is not None:
                        found[row.name] = self._derived(row)
        return found

    def not_registered(self, name: str) -> TaskNotRegistered:
        """Return the error for a name that no task has, with the near names of code tasks."""
        shown = name[:MAX_NAME]
        return TaskNotRegistered(
            f"No task is called {shown!r}.", hint=missing_hint(shown, self._registry.names())
        )

    async def list(self) -> list[CatalogueEntry]:
        """Return all tasks, code and derived, sorted by name."""
        entries = [entry_of(spec) for spec in self._registry.specs()]
        async with self._databases.autocommit(APPLICATION_BIND) as connection:
            rows = (await connection.execute(select(DerivedTask.__table__))).all()
        # A derived task whose base is not loaded in this installation cannot run, and one whose
        # name code has taken is not the one that runs, so neither is shown.
        entries += [
            self._derived(row)
            for row in rows
            if self._registry.find(row.base_task) is not None
            and self._registry.find(row.name) is None
        ]
        return sorted(entries, key=lambda entry: entry.name)

    async def register(
        self,
        *,
        name: str,
        base_task: str,
        created_by: str,
        description: str | None = None,
        params: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> CatalogueEntry:
        """Store a derived task and return it; it is usable at once in every process.

        Raises TaskAlreadyRegistered, TaskNotRegistered for the base, InvalidParams or
        InvalidOptions for presets that break it.
        """
        spec = self._registry.get(base_task)
        if self._registry.find(name) is not None:
            raise TaskAlreadyRegistered(f"The task '{name}' is registered by code.")
        presets = dict(params or {})
        _check_presets(spec, presets)
        chosen = self._check_options(options or {})
        told = description or spec.description
        row = {
            "name": name,
            "base_task": spec.name,
            "description": told,
            "params": presets,
            "options": chosen,
            "created_by": created_by,
        }
        try:
            async with self._databases.begin(APPLICATION_BIND) as connection:
                await connection.execute(insert(DerivedTask), row)
        except IntegrityError as error:
            raise TaskAlreadyRegistered(f"The task '{name}' exists already.") from error
        return _derive(spec, name, told, presets, chosen)

    async def delete(self, name: str) -> None:
        """Forget a derived task; TaskInUse for one that code registers, TaskNotRegistered
        for none.
        """
        if self._registry.find(name) is not None:
            raise TaskInUse(f"The task '{name}' is registered by code; remove it there.")
        if not _can_be_called(name):
            raise TaskNotRegistered(f"No derived task is called {name[:MAX_NAME]!r}.")
        async with self._databases.begin(APPLICATION_BIND) as connection:
            deleted = await connection.execute(delete(DerivedTask).where(DerivedTask.name == name))
        if deleted.rowcount == 0:
            raise TaskNotRegistered(f"No derived task is called '{name}'.")

    def _derived(self, row: Row[Any]) -> CatalogueEntry:
        return _derive(
            self._registry.get(row.base_task), row.name, row.description, row.params, row.options
        )

    def _check_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        try:
            chosen = DerivedOptions.model_validate(dict(options)).model_dump(exclude_none=True)
        except ValidationError as error:
            faults = error.errors(include_url=False, include_context=False, include_input=False)
            errors = [
                FieldError(("options", *fault["loc"]), fault["msg"], fault["type"])
                for fault in faults
            ]
            raise InvalidOptions("A preset option is wrong.", errors=errors) from None
        if chosen.get("queue", self._registry.queues()[0]) not in self._registry.queues():
            message = f"there is no such queue; there are: {', '.join(self._registry.queues())}"
            raise InvalidOptions(
                "A preset option is wrong.",
                errors=[FieldError(("options", "queue"), message, "invalid_option")],
            )
        return chosen


def _can_be_called(name: str) -> bool:
    return len(name) <= MAX_NAME and name.isprintable()


def entry_of(spec: TaskSpec) -> CatalogueEntry:
    """Return a code task as callers see it."""
    return CatalogueEntry(spec.name, spec, spec.description, spec.options)


def _derive(
    spec: TaskSpec,
    name: str,
    description: str,
    params: Mapping[str, Any],
    options: Mapping[str, Any],
) -> CatalogueEntry:
    return CatalogueEntry(
        name, spec, description, replace(spec.options, **options), spec.name, dict(params)
    )


def _check_presets(spec: TaskSpec, presets: Mapping[str, Any]) -> None:
    """Raise InvalidParams for presets that the base would refuse; parameters still to come are no
    fault.
    """
    try:
        spec.read_params(presets)
    except InvalidParams as error:
        # ("name",) is a parameter that the caller will give; a hole deeper down is nobody's.
        faults = [
            fault for fault in error.errors if not (fault.type == "missing" and len(fault.loc) == 2)
        ]
        if faults:
            raise InvalidParams(
                f"The presets break the schema of '{spec.name}'.", errors=faults
            ) from None
