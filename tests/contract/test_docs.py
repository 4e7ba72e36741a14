"""What can be set or typed is in the guides, with its real default."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import SecretStr
from typer.main import get_command

from app.auth.scopes import ROLES
from app.cli import create_cli
from app.cli.exit_codes import ExitCode
from app.config.legacy import older_names
from app.config.plugins import load_plugins
from app.config.settings import DatabaseSettings, Settings
from app.tasks.explaining import ReasonCode
from app.tasks.statuses import Status

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def plain(value: object) -> object:
    """The value as settings.yaml would hold it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def leaves(model: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """Every setting as dotted key and value; the keys of all databases but `url` as one."""
    items = model if isinstance(model, Mapping) else dict(model)  # type: ignore[call-overload]  # a model iterates over its fields
    for key, value in items.items():
        below = (*path, key)
        if hasattr(type(value), "model_fields") or key == "databases":
            yield from leaves(value, below)
        elif path[:1] == ("databases",) and key != "url":
            yield f"databases.<name>.{key}", plain(value)
        else:
            yield ".".join(below), plain(value)


def documented() -> dict[str, object]:
    text = (GUIDES / "configuration.md").read_text("utf-8")
    rows = re.findall(r"^\| `([a-z_.<>]+)` \| `(.+?)` \|", text, re.MULTILINE)
    return {key: json.loads(default) for key, default in rows}


def test_every_setting_is_in_the_guide_with_its_default() -> None:
    real = dict(leaves(Settings()))
    plugins = load_plugins(Settings().plugins)
    for plugin in plugins:
        model = plugin.plugin.settings_model
        if model is not None:
            prefix = ("plugin_settings", plugin.name)
            real |= dict(leaves(model(), prefix))
    assert documented() == real


def test_shipped_settings_are_the_defaults_and_complete() -> None:
    shipped = yaml.safe_load((ROOT / "settings.yaml").read_text("utf-8"))
    built = Settings(**shipped)
    assert built == Settings()
    written = {key for key, _ in _flat(shipped)}
    wanted = {key for key, _ in leaves(Settings()) if "<name>" not in key}
    assert wanted - written == set()


def test_shipped_settings_show_the_keys_of_a_database() -> None:
    text = (ROOT / "settings.yaml").read_text("utf-8")
    defaults = DatabaseSettings(url=SecretStr("sqlite+aiosqlite:///x.db"))
    shown = dict(re.findall(r"^    # ([a-z_]+): (\S+)$", text, re.MULTILINE))
    assert {key: yaml.safe_load(value) for key, value in shown.items()} == {
        key: value for key, value in defaults if key != "url"
    }


def test_every_older_name_is_in_the_guide() -> None:
    text = (GUIDES / "configuration.md").read_text("utf-8")
    section = text.split("## Older names", 1)[1]
    for name in re.findall(r"`([A-Z_]{6,})`", section):
        assert older_names({name: "1"}), name
    names = set(re.findall(r"`([A-Z_]{6,})`", section))
    source = (ROOT / "app/config/legacy.py").read_text("utf-8")
    assert set(re.findall(r'^    "([A-Z_]+)": \(', source, re.MULTILINE)) == names


def commands() -> dict[str, set[str]]:
    """Every command with its long options; those that many commands share are left out."""
    found: dict[str, set[str]] = {}

    def walk(command: Any, path: tuple[str, ...]) -> None:
        below = getattr(command, "commands", None)
        for name, child in (below or {}).items():
            walk(child, (*path, name))
        if not below:
            # Of a pair like --browser/--no-browser the guide names the one that changes something.
            named = (parameter.secondary_opts or parameter.opts for parameter in command.params)
            options = {option for options in named for option in options}
            found[" ".join(path)] = {option for option in options if option.startswith("--")}

    walk(get_command(create_cli()), ("taskyard",))
    return {name: options - {"--url", "--token", "--output"} for name, options in found.items()}


def test_every_command_is_in_the_guide_with_its_options() -> None:
    text = (GUIDES / "cli.md").read_text("utf-8")
    rows = re.findall(r"^\| `(taskyard [a-z- ]*[a-z]).*?` \|.*\| (.*)\|$", text, re.MULTILINE)
    assert {name: set(re.findall(r"--[a-z-]+", options)) for name, options in rows} == commands()


def test_every_route_is_in_the_guide(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", "from app.cli import main; main()", "openapi"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    real = {
        f"{method.upper()} {path.removeprefix('/api/v1')}"
        for path, operations in json.loads(answer.stdout)["paths"].items()
        for method in operations
    }
    text = (GUIDES / "api.md").read_text("utf-8")
    assert set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`?\s]+)", text)) == real


# Everything of the product is imported, because an error is known when its module is loaded.
EVERYTHING = """
import importlib, json, pkgutil
import app
from prometheus_client import REGISTRY
from app.common.errors import all_errors, meaning_of

for module in pkgutil.walk_packages(app.__path__, "app."):
    if not module.name.startswith("app._migrations") and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
errors = [[error.code, error.status, meaning_of(error)] for error in all_errors()]
metrics = [
    [f"{metric.name}_total" if metric.type == "counter" else metric.name,
     list(collector._labelnames), metric.documentation]
    for collector in list(REGISTRY._collector_to_names) if hasattr(collector, "_labelnames")
    for metric in collector.describe() if metric.name.startswith("taskyard_")
]
print(json.dumps({"errors": errors, "metrics": sorted(metrics)}))
"""


@pytest.fixture(scope="module")
def product() -> dict[str, list[list[Any]]]:
    """The error codes and the metrics of the whole product."""
    answer = subprocess.run(
        [sys.executable, "-c", EVERYTHING], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    found: dict[str, list[list[Any]]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def rows_of(guide: str, first: str) -> list[str]:
    """The rows of the guide's tables that begin with a name like `first`, as they stand."""
    text = (GUIDES / guide).read_text("utf-8")
    return re.findall(rf"^\| `{first}` \|.*$", text, re.MULTILINE)


def assert_in_step(rows: list[str], real: list[str], guide: str) -> None:
    """Tell what to write into the guide and what to take out of it."""
    told = [f"add to docs/guides/{guide}:  {row}" for row in real if row not in rows]
    told += [f"take out of docs/guides/{guide}:  {row}" for row in rows if row not in real]
    assert not told, "\n".join(told)
    assert len(rows) == len(set(rows)), "a row stands there twice"


def test_every_error_code_is_in_the_guide(product: dict[str, list[list[Any]]]) -> None:
    real = [f"| `{code}` | {status} | {meaning} |" for code, status, meaning in product["errors"]]
    assert len(real) > 30
    assert_in_step(rows_of("errors.md", "[A-Z_]+"), real, "errors.md")


def test_every_metric_is_in_the_guide(product: dict[str, list[list[Any]]]) -> None:
    real = [
        f"| `{name}` | {', '.join(f'`{label}`' for label in labels)} | {meaning} |"
        for name, labels, meaning in product["metrics"]
    ]
    assert len(real) > 10
    assert_in_step(rows_of("metrics.md", "taskyard_[a-z_]+"), real, "metrics.md")


def test_every_reason_why_a_run_waits_is_in_the_guide() -> None:
    section = (GUIDES / "api.md").read_text("utf-8").split("## Why a run waits", 1)[1]
    rows = re.findall(r"^\| `([A-Z_]+)` \|", section.split("\n## ", 1)[0], re.MULTILINE)
    assert sorted(rows) == sorted(ReasonCode)


def test_every_scope_is_in_the_guide_with_its_roles() -> None:
    rows = re.findall(
        r"^\| `([a-z_]+:[a-z]+|admin)` \| (.+?) \|",
        (GUIDES / "api.md").read_text("utf-8"),
        re.MULTILINE,
    )
    told = {scope: set(re.findall("`([a-z]+)`", roles)) for scope, roles in rows}
    scopes = {scope for granted in ROLES.values() for scope in granted}
    assert told == {
        scope: {role for role, granted in ROLES.items() if scope in granted} for scope in scopes
    }


def test_every_exit_code_is_in_the_guide() -> None:
    rows = re.findall(r"^\| (\d+) \|", (GUIDES / "cli.md").read_text("utf-8"), re.MULTILINE)
    assert [int(row) for row in rows] == list(ExitCode)


def test_every_status_is_in_the_guide_of_guarantees() -> None:
    section = (GUIDES / "guarantees.md").read_text("utf-8").split("## The states of a run", 1)[1]
    table = section.split("\nEach transition", 1)[0]
    assert set(re.findall(r"`([A-Z]+)`", table)) == set(Status)


def test_metrics_that_other_guides_name_exist(product: dict[str, list[list[Any]]]) -> None:
    known = {name for name, _, _ in product["metrics"]}
    for document in DOCUMENTS:
        named = set(re.findall(r"`(taskyard_[a-z_]+[a-z])[`{]", document.read_text("utf-8")))
        assert named <= known, document


def test_error_codes_that_other_guides_name_exist(product: dict[str, list[list[Any]]]) -> None:
    """A code is what stands in a problem document: words in capitals behind an HTTP status."""
    known = {code for code, _, _ in product["errors"]}
    text = (GUIDES / "api.md").read_text("utf-8")
    named = set(re.findall(r"\b[45]\d\d `([A-Z]+(?:_[A-Z]+)+)`", text))
    assert named <= known


def test_only_the_rooms_of_metrics_make_metrics() -> None:
    """A metric that is made anywhere else is missed by who looks for them."""
    makes = re.compile(r"^[A-Z_]+ = (?:Counter|Gauge|Histogram)\($", re.MULTILINE)
    names = re.compile(r'"taskyard_[a-z_]+",')
    for path in (ROOT / "app").rglob("*.py"):
        text = path.read_text("utf-8")
        if names.search(text) and makes.search(text):
            assert path.name == "metrics.py", path


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?://|#)([^)#\s]+)", document.read_text("utf-8"))
    assert [link for link in links if not (document.parent / link).exists()] == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs/decisions"
    listed = set(
        re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text("utf-8"))
    )
    assert listed == {path.name for path in folder.glob("[0-9]*.md")}


def _flat(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, (*path, key))
        else:
            yield ".".join((*path, key)), value
