"""Names, docstrings, schemas and defaults of a plugin's tasks."""

import json
import keyword
import re
from collections.abc import Iterator

from pydantic import ValidationError

from app.common.errors import ConfigurationError
from app.config.plugins import LoadedPlugin
from app.tasks.errors import InvalidParams
from app.tasks.registry import Registry, TaskSpec
from app.testing.checks.fault import Fault

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_VERSION = re.compile(r"\d+(\.\d+){0,3}([.+-]?[0-9A-Za-z.+-]*)?")


def check_manifest(plugin: LoadedPlugin) -> Iterator[Fault]:
    """Yield what is wrong with the manifest and with the plugin's settings."""
    manifest = plugin.plugin
    if not _NAME.fullmatch(manifest.name) or keyword.iskeyword(manifest.name):
        yield Fault(
            "manifest",
            plugin.module,
            f"'{manifest.name}' is no name for a plugin.",
            "Use up to 40 of a-z, 0-9 and _, a letter first, and no word of Python.",
        )
    if not _VERSION.fullmatch(manifest.version):
        yield Fault(
            "manifest",
            plugin.module,
            f"'{manifest.version}' is no version.",
            "Write something like version='1.0.0'.",
        )
    if not manifest.description:
        yield Fault(
            "manifest",
            plugin.module,
            "The plugin does not say what it is for.",
            "Add description='…' to Plugin(…): `taskyard plugins list` shows it.",
        )
    yield from _check_settings(plugin)


def check_tasks(plugin: LoadedPlugin, registry: Registry) -> Iterator[Fault]:
    """Yield what is wrong with each task, beyond what stops the boot."""
    for spec in registry.specs():
        if not spec.name.startswith(f"{plugin.name}."):
            yield Fault(
                "names",
                place_of(spec),
                f"The task '{spec.name}' does not begin with the plugin's name '{plugin.name}'.",
                f"Call it '{plugin.name}.{spec.name.partition('.')[2]}' and keep the old name in "
                f"aliases=('{spec.name}',).",
            )
        yield from _check_schemas(spec)
        yield from _check_defaults(spec)


def place_of(spec: TaskSpec) -> str:
    """Return where a task's function stands, as `module.function`."""
    return f"{spec.function.__module__}.{spec.function.__qualname__}"


def _check_settings(plugin: LoadedPlugin) -> Iterator[Fault]:
    model = plugin.plugin.settings_model
    if model is None:
        return
    try:
        plugin.settings({})
    except ConfigurationError as error:
        yield Fault(
            "settings",
            f"{model.__module__}.{model.__qualname__}",
            error.detail,
            "Give every setting a default, so that the plugin starts without any.",
        )
    if model.model_config.get("extra") != "forbid":
        yield Fault(
            "settings",
            f"{model.__module__}.{model.__qualname__}",
            "A misspelt setting would be passed over in silence.",
            "Add: model_config = ConfigDict(extra='forbid').",
        )


def _check_schemas(spec: TaskSpec) -> Iterator[Fault]:
    for kind, schema in (
        ("parameters", spec.signature.params_schema),
        ("result", spec.signature.result_schema),
    ):
        try:
            json.dumps(schema, allow_nan=False)
        except (TypeError, ValueError) as error:
            yield Fault(
                "schemas",
                place_of(spec),
                f"The schema of the {kind} is not JSON: {error}.",
                "Keep values that JSON does not know out of defaults and json_schema_extra.",
            )


def _check_defaults(spec: TaskSpec) -> Iterator[Fault]:
    """Each default has to be a value that a caller could have sent."""
    for name, field in spec.signature.params_model.model_fields.items():
        if field.is_required():
            continue
        given = str(field.alias)
        try:
            document = spec.signature.params_model.model_construct(**{name: field.default})
            value = json.loads(document.model_dump_json(by_alias=True, warnings="error"))[given]
            spec.read_params({given: value})
        except InvalidParams as error:
            wrong = [fault for fault in error.errors if fault.loc[:2] == ("params", given)]
            for fault in wrong:
                yield _wrong_default(spec, given, fault.msg)
        except (ValidationError, ValueError) as error:
            yield _wrong_default(spec, given, str(error).splitlines()[0])


def _wrong_default(spec: TaskSpec, name: str, why: str) -> Fault:
    return Fault(
        "schemas",
        place_of(spec),
        f"The default of '{name}' is not of its own type: {why}.",
        "Let the annotation allow it (`str | None = None`), or choose another default.",
    )
