"""Plugins written for one test."""

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.db.base import bases_by_bind

WritePlugin = Callable[[dict[str, str]], str]
_numbers = itertools.count()


@pytest.fixture
def write_plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WritePlugin]:
    """A function that writes the files of a package and returns the package's name.

    `{name}` in a path or a text stands for that name, which no other test has.
    """
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    tables = {bind: set(base.metadata.tables) for bind, base in bases_by_bind()}

    def write(files: dict[str, str]) -> str:
        name = f"yard_{next(_numbers)}"
        for file, text in files.items():
            path = tmp_path / name / file.replace("{name}", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text).replace("{name}", name), "utf-8")
        (tmp_path / name / "__init__.py").touch()
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("yard_"):
            del sys.modules[name]
    for bind, base in bases_by_bind():
        for table in set(base.metadata.tables) - tables.get(bind, set()):
            base.metadata.remove(base.metadata.tables[table])
