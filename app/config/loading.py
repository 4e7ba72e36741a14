"""From files and environment to `Settings`, with the origin of every value.

Precedence, first wins: environment (`TASKYARD_A__B`), the older variable names,
`.env`, secret files, the files of `TASKYARD_CONFIG` (later wins), `settings.yaml`,
defaults.
"""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import (
    EnvSettingsSource,
    NestedSecretsSettingsSource,
    SecretsSettingsSource,
    SettingsError,
)

from app.common.errors import ConfigurationError
from app.common.redaction import MASK, redact
from app.config.legacy import older_names
from app.config.nearest import explain, unknown_variables
from app.config.settings import DATA_DIR, Settings

SETTINGS_FILE = Path("settings.yaml")
SECRETS_DIR = Path("/run/secrets")
_DEFAULT_URLS = {
    ("databases", "postgres_main", "url"): "sqlite+aiosqlite:///.taskyard/app.db",
    ("databases", "mysql_lint", "url"): "sqlite+aiosqlite:///.taskyard/lint.db",
    ("storage", "url"): "file://.taskyard/files",
}
_EMBEDDED = {
    **_DEFAULT_URLS,
    ("celery", "broker_url"): "inproc://",
    ("celery", "result_backend"): None,
    ("redis", "url"): "memory://",
}

Tree = dict[str, Any]
KeyPath = tuple[str, ...]


class _Layer(NamedTuple):
    origin: str
    values: Tree


class SettingRow(NamedTuple):
    """One effective setting: dotted key, printable value (secrets masked), where it came from."""

    key: str
    value: object
    origin: str


def load_settings(
    *,
    data_dir: Path | None = None,
    embedded: bool = False,
    environ: Mapping[str, str] | None = None,
) -> Settings:
    """Return the settings of this process; raises ConfigurationError that names the wrong key.

    `data_dir` takes the place of `.taskyard` in the default URLs. `embedded` puts
    every adapter on its embedded default, whatever the sources say, as `taskyard dev`
    and `taskyard demo` promise.
    """
    settings, _ = _load(data_dir, os.environ if environ is None else environ, embedded=embedded)
    return settings


def effective_settings(environ: Mapping[str, str] | None = None) -> list[SettingRow]:
    """Return every effective setting with its origin, secrets masked."""
    settings, layers = _load(None, os.environ if environ is None else environ)
    rows = []
    for path, value in _leaves(masked(settings)):
        origin = next((layer.origin for layer in layers if _has(layer.values, path)), "default")
        rows.append(SettingRow(".".join(path), value, origin))
    return rows


def masked(settings: Settings) -> Tree:
    """Return the settings as plain values without any secret: URLs keep host and name only."""
    tree: Tree = settings.model_dump(mode="json")
    plain: dict[KeyPath, str] = {
        ("databases", name, "url"): database.url.get_secret_value()
        for name, database in settings.databases.items()
    }
    plain[("celery", "broker_url")] = settings.celery.broker_url.get_secret_value()
    if settings.celery.result_backend is not None:
        plain[("celery", "result_backend")] = settings.celery.result_backend.get_secret_value()
    plain[("redis", "url")] = settings.redis.url.get_secret_value()
    plain[("storage", "url")] = settings.storage.url.get_secret_value()
    for path, url in plain.items():
        _put(tree, path, _masked_url(url))
    auth = tree["auth"]
    for holder, key in (
        (auth, "bootstrap_admin"),
        (auth["jwt"], "secret"),
        (auth["jwt"], "private_key_file"),
    ):
        holder[key] = MASK if holder[key] else None
    tree["plugin_settings"] = redact(tree["plugin_settings"])
    return tree


def _masked_url(url: str) -> str:
    """Return a URL without password and query, however badly the password is written in it."""
    scheme, separator, rest = url.partition("://")
    place, _, query = rest.partition("?")
    names, at, host = place.rpartition("@")
    if not at and "@" in query and ":" in place:
        # A password with a raw question mark, or a query with an @: no telling where it ends.
        return f"{scheme}{separator}{MASK}"
    user, colon, _ = names.partition(":")
    return f"{scheme}{separator}{user}{colon and f':{MASK}'}{at}{host}"


def _load(
    data_dir: Path | None, environ: Mapping[str, str], *, embedded: bool = False
) -> tuple[Settings, list[_Layer]]:
    layers = [layer for layer in _layers(environ) if layer.values]
    merged: Tree = {}
    for layer in reversed(layers):
        merged = _merge(merged, layer.values)
    _place_data(merged, data_dir, embedded=embedded)
    try:
        return Settings(**merged), layers
    except ValidationError as error:
        raise ConfigurationError(explain(error, Settings)) from None


def _layers(environ: Mapping[str, str]) -> Iterator[_Layer]:
    dotenv = {key: value for key, value in dotenv_values(".env").items() if value is not None}
    for origin, variables in (("environment", environ), (".env", dotenv)):
        unknown_variables(variables, Settings)
        yield _Layer(origin, _environment(variables))
        yield _Layer(f"{origin} (older name)", older_names(variables))
    places = {**dotenv, **environ}
    secrets_dir = Path(places.get("TASKYARD_SECRETS_DIR", SECRETS_DIR))
    if secrets_dir.is_dir():
        yield _Layer("secret files", _secret_files(secrets_dir))
    for name in reversed(_config_files(places)):
        yield _Layer(str(name), _read_yaml(name))
    if SETTINGS_FILE.is_file():
        yield _Layer(str(SETTINGS_FILE), _read_yaml(SETTINGS_FILE))


class _EnvironmentSource(EnvSettingsSource):
    """pydantic-settings' own parser of names and nested JSON, over a given mapping."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = {key.lower(): value for key, value in environ.items()}
        super().__init__(Settings)

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return self._environ


def _environment(environ: Mapping[str, str]) -> Tree:
    try:
        return _without_missing(_EnvironmentSource(environ)())
    except SettingsError as error:
        detail = f"A TASKYARD_ variable cannot be read: {error}. Lists and maps are JSON."
        raise ConfigurationError(detail) from None


def _secret_files(folder: Path) -> Tree:
    unknown_variables([file.name for file in folder.iterdir()], Settings)
    try:
        source = NestedSecretsSettingsSource(
            SecretsSettingsSource(Settings, secrets_dir=folder, env_prefix="TASKYARD_"),
            secrets_dir=folder,
            secrets_nested_delimiter="__",
        )
        return _without_missing(source())
    except (SettingsError, OSError, UnicodeDecodeError) as error:
        # The words of a decoding error may quote the secret.
        detail = error if isinstance(error, SettingsError) else type(error).__name__
        raise ConfigurationError(
            f"A secret file in '{folder}' cannot be read: {detail}. Lists and maps are JSON."
        ) from None


def _without_missing(values: Mapping[str, Any]) -> Tree:
    return {key: value for key, value in values.items() if value is not None}


def _config_files(environ: Mapping[str, str]) -> list[Path]:
    """Return the files that are named by commas or, like every other list, in JSON."""
    text = environ.get("TASKYARD_CONFIG", "").strip()
    names = _json_list(text) if text.startswith("[") else text.split(",")
    files = [Path(name.strip()) for name in names if name.strip()]
    for file in files:
        if not file.is_file():
            raise ConfigurationError(f"TASKYARD_CONFIG names '{file}', which is not a file.")
    return files


def _json_list(text: str) -> list[str]:
    try:
        names = json.loads(text)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError(
            'TASKYARD_CONFIG is no list of files: write a.yaml,b.yaml or ["a.yaml", "b.yaml"].'
        )
    return names


def _read_yaml(file: Path) -> Tree:
    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except yaml.MarkedYAMLError as error:
        # Without the library's excerpt, which may show a secret of the line.
        place = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(
            f"'{file}' cannot be read as YAML: {error.problem}{place}."
        ) from None
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"'{file}' cannot be read as YAML: {type(error).__name__}."
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigurationError(f"'{file}' must hold a map of settings.")
    return values


def _place_data(merged: Tree, data_dir: Path | None, *, embedded: bool) -> None:
    folder = data_dir or merged.get("data_dir", DATA_DIR)
    if not isinstance(folder, str | Path):
        raise ConfigurationError("The setting 'data_dir' is wrong: it must be a path.")
    merged["data_dir"] = Path(folder)
    chosen = _EMBEDDED if embedded else _DEFAULT_URLS
    for path, default in chosen.items():
        if _is_blocked(merged, path):
            continue  # Not a map where one belongs: the models refuse it and name the key.
        if embedded or _get(merged, path, default) == default:
            _put(merged, path, default and default.replace(str(DATA_DIR), str(folder), 1))


def _is_blocked(tree: Tree, path: KeyPath) -> bool:
    above = (_get(tree, path[:length], None) for length in range(1, len(path)))
    return any(value is not None and not isinstance(value, dict) for value in above)


def _merge(below: Tree, above: Tree) -> Tree:
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = (
            _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
        )
    return result


def _get(tree: Tree, path: KeyPath, default: object) -> object:
    value: Any = tree
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return default
        value = value[key]
    return value


def _has(tree: Tree, path: KeyPath) -> bool:
    missing = object()
    return _get(tree, path, missing) is not missing


def _put(tree: Tree, path: KeyPath, value: object) -> None:
    for key in path[:-1]:
        below = tree.get(key)
        if not isinstance(below, dict):
            below = {}
            tree[key] = below
        tree = below
    tree[path[-1]] = value


def _leaves(tree: Tree, path: KeyPath = ()) -> Iterator[tuple[KeyPath, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, key))
        else:
            yield (*path, key), value
