"""Fixtures of the lint plugin's unit tests: a real sandbox, and the markers of attacks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.plugins.lint.linting import Linter
from app.plugins.lint.sandbox import Sandboxes
from app.plugins.lint.settings import LintSettings


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
    """A folder with a module that leaves a mark when anything imports it."""
    folder = tmp_path / "lib"
    folder.mkdir()
    mark = tmp_path / "PWNED"
    (folder / "attack.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    (folder / "__init__.py").write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    (folder / "secret.sql").write_text("SELECT 'the-secret-of-the-host';\n")
    folder.chmod(0o755)
    tmp_path.chmod(0o755)
    return folder
