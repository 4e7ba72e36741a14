"""Fixtures of the lint plugin's tests of processes: a real sandbox, and the markers of attacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.plugins.lint.linting import Linter
from app.plugins.lint.sandbox import Sandboxes
from app.plugins.lint.settings import LintSettings
from tests.unit.plugins.lint.attacks import set_trap


@pytest.fixture(scope="session")
def sandboxes() -> Iterator[Sandboxes]:
    """One sandbox process for all tests that lint for real."""
    opened = Sandboxes(LintSettings(sandbox_processes=1).sandbox_limits())
    yield opened
    opened.close()


@pytest.fixture
def linter(sandboxes: Sandboxes) -> Linter:
    return Linter(LintSettings(), sandboxes.lint)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    return set_trap(tmp_path)
