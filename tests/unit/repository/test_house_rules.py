"""Rules of the repository that no linter knows."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path for path in (ROOT / "app").rglob("*.py") if "_migrations" not in path.parts)
OPT_OUT = re.compile(r"noqa(?::\s*[A-Z]+\d+(?:,\s*[A-Z]+\d+)*)?|type:\s*ignore(?:\[[a-z, -]+\])?")
LOCKS = ["requirements.lock", "scripts/bootstrap.lock", "bench/requirements.lock"]


def lines_with(pattern: str, path: Path) -> list[str]:
    found = re.compile(pattern)
    lines = path.read_text("utf-8").splitlines()
    return [f"{path.relative_to(ROOT)}: {line.strip()}" for line in lines if found.search(line)]


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address(name: str) -> None:
    assert lines_with(r"://|--(extra-)?index-url|--find-links|^-f ", ROOT / name) == []


@pytest.mark.parametrize("name", LOCKS)
def test_every_pinned_package_has_a_hash(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    blocks = re.split(r"\n(?=[A-Za-z0-9])", text)
    pinned = [block for block in blocks if "==" in block.split("\n", 1)[0]]
    assert pinned
    assert [block.split(" ", 1)[0] for block in pinned if "--hash=sha256:" not in block] == []


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[\[<>=!;~ ]", line, maxsplit=1)[0].lower() for line in wanted}
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    assert names - set(re.findall(r"^([a-z0-9.-]+)==", lock, re.MULTILINE)) == set()


def test_only_the_database_room_commits() -> None:
    outside = [path for path in SOURCES if not path.is_relative_to(ROOT / "app/db")]
    assert [line for path in outside for line in lines_with(r"session\.commit\(", path)] == []


def test_no_loose_ends() -> None:
    words = r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError"
    assert [line for path in SOURCES for line in lines_with(words, path)] == []


def test_every_opt_out_says_why() -> None:
    """A bare `noqa` or `type: ignore` hides a fault; one with a reason is a decision.

    The reason stands behind it, in the comment above it, or at the line above that opts out too.
    """
    assert "\n".join(line for path in SOURCES for line in bare_opt_outs(path)) == ""


def bare_opt_outs(path: Path) -> list[str]:
    found = []
    is_explained = False
    for line in path.read_text("utf-8").splitlines():
        comment = re.search(r"#\s*(?:noqa|type:\s*ignore).*$", line)
        if comment is None:
            is_explained = line.lstrip().startswith("#")
            continue
        is_explained = is_explained or bool(
            re.search(r"[A-Za-z]{2}", OPT_OUT.sub("", comment.group()))
        )
        if not is_explained:
            found.append(f"{path.relative_to(ROOT)}: {line.strip()}")
    return found


def test_no_catch_all_module() -> None:
    names = {"utils.py", "helpers.py", "manager.py", "misc.py"}
    assert [str(path) for path in SOURCES if path.name in names] == []


def test_every_test_folder_is_a_package() -> None:
    """Without it two test files of one name hide each other, and `redis` could mean ours."""
    folders = {path.parent for path in (ROOT / "tests").rglob("*.py")}
    packages = {folder for folder in folders if folder.name != "versions"}
    assert [str(folder) for folder in packages if not (folder / "__init__.py").is_file()] == []
