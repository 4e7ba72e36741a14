"""Names that do not exist, told with the nearest one that does."""

import difflib
from collections.abc import Iterable
from typing import get_args

from pydantic import BaseModel, ValidationError

from app.common.errors import ConfigurationError

_PREFIX = "TASKYARD_"
# Variables with our prefix that are not settings: they say where settings or the server are found.
_NOT_SETTINGS = {
    "TASKYARD_CONFIG",
    "TASKYARD_FAILPOINTS",
    "TASKYARD_SECRETS_DIR",
    "TASKYARD_TOKEN",
    "TASKYARD_TRACEBACK",
    "TASKYARD_URL",
}
_NOT_SETTINGS_PREFIXES = ("TASKYARD_TEST_",)


def nearest(name: str, valid: Iterable[str]) -> str | None:
    """Return the valid name that is most like the given one, or None when none is."""
    matches = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5)
    return matches[0] if matches else None


def unknown_variables(names: Iterable[str], model: type[BaseModel]) -> None:
    """Raise ConfigurationError for a `TASKYARD_` variable that names no top-level setting.

    Deeper names reach the models, which refuse what they do not know. Upper and lower case are
    one, as they are where the values are read.
    """
    for variable in map(str.upper, names):
        if not variable.startswith(_PREFIX) or variable in _NOT_SETTINGS:
            continue
        if variable.startswith(_NOT_SETTINGS_PREFIXES):
            continue
        name = variable.removeprefix(_PREFIX).lower().split("__", 1)[0]
        if name not in model.model_fields:
            hint = nearest(name, model.model_fields)
            near = f" Did you mean {_PREFIX}{hint.upper()}?" if hint else ""
            raise ConfigurationError(f"The variable {variable} is not a setting.{near}")


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the faults of the settings, one sentence each, without any value."""
    sentences = []
    for fault in error.errors(include_input=False, include_url=False, include_context=False):
        path = [str(part) for part in fault["loc"]]
        key = ".".join(path)
        if fault["type"] == "extra_forbidden":
            hint = nearest(path[-1], _fields_at(model, path[:-1]))
            near = f" Did you mean '{'.'.join([*path[:-1], hint])}'?" if hint else ""
            sentences.append(f"The setting '{key}' does not exist.{near}")
        else:
            sentences.append(f"The setting '{key}' is wrong: {fault['msg']}.")
    return " ".join(sentences)


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    for part in path:
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field else None
        if field is None and inner is None:
            continue  # A name chosen by the user, as below `databases`.
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in get_args(annotation):
        if found := _model_in(argument):
            return found
    return None
