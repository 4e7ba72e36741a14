"""A new plugin, written from the templates in `scaffold/`."""

import keyword
import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure, usage_error

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_SUFFIX = ".tmpl"
# Files whose real name would mean something in the folder of the templates.
_REAL_NAMES = {"gitignore": ".gitignore", "init.py": "__init__.py"}
# Written beside the first plugin of an empty folder, so that `make test` works there as well.
_AROUND = """\
# Runs a target in the folder of every plugin below.
PLUGINS := $(patsubst %/Makefile,%,$(wildcard */Makefile))

.PHONY: test lint format
test lint format:
\t@for plugin in $(PLUGINS); do $(MAKE) --no-print-directory -C $$plugin $@ || exit 1; done
"""


def check_name(name: str, taken: frozenset[str]) -> None:
    """Raise a usage error unless a plugin may have the name; `taken` are the loaded plugins."""
    if not _NAME.fullmatch(name):
        proposal = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_0123456789")[:40]
        raise usage_error(
            f"'{name}' is no name for a plugin: a package and its tasks are called so.",
            hint="Use a to z, 0 to 9 and _, a letter first, up to 40 characters"
            + (f", for example '{proposal}'." if _NAME.fullmatch(proposal) else "."),
        )
    if keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise usage_error(
            f"'{name}' is a word of Python.", hint=f"For example: {name}_tasks or my_{name}."
        )
    if name in taken:
        raise usage_error(
            f"A plugin called '{name}' is loaded already.",
            hint="Two plugins of one name stop the start: choose another name.",
            next_command="taskyard plugins list",
        )
    if name in {"app", "tests"} or name in sys.stdlib_module_names or find_spec(name) is not None:
        raise usage_error(
            f"'import {name}' means another package on this machine.",
            hint=f"Choose a name that nothing else has, for example '{name}_plugin'.",
        )


def write_plugin(name: str, parent: Path) -> Path:
    """Write the plugin's project into a new folder below `parent` and return that folder.

    An empty `parent` gets a Makefile that runs `make test` in every plugin below it.
    """
    project = parent / name
    if project.exists():
        raise CommandError(
            Failure(
                code="PLUGIN_EXISTS",
                detail=f"'{project}' exists already; nothing was written.",
                exit_code=ExitCode.FAILED,
                hint="Choose another name, or another place with --path.",
            )
        )
    is_first = not parent.is_dir() or not any(parent.iterdir())
    values = {
        "name": name,
        "distribution": name.replace("_", "-"),
        "python": sys.executable,
    }
    try:
        _write(files("app.cli") / "scaffold", project, values)
        if is_first:
            (parent / "Makefile").write_text(_AROUND, "utf-8")
    except OSError as error:
        raise CommandError(
            Failure(
                code="PLUGIN_NOT_WRITTEN",
                detail=f"'{project}' cannot be written: {error.strerror or error}.",
                exit_code=ExitCode.FAILED,
                hint="Choose another place with --path.",
            )
        ) from error
    return project


def _write(source: Traversable, target: Path, values: dict[str, str]) -> None:
    target.mkdir(parents=True)
    for entry in sorted(source.iterdir(), key=lambda one: one.name):
        if entry.is_dir():
            _write(
                entry, target / (values["name"] if entry.name == "package" else entry.name), values
            )
        elif entry.name.endswith(_SUFFIX):
            name = entry.name.removesuffix(_SUFFIX)
            text = entry.read_text("utf-8")
            for key, value in values.items():
                text = text.replace("{{" + key + "}}", value)
            (target / _REAL_NAMES.get(name, name)).write_text(text, "utf-8")
