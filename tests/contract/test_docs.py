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

from app.cli import create_cli
from app.config.legacy import older_names
from app.config.plugins import load_plugins
from app.config.settings import DatabaseSettings, Settings

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
