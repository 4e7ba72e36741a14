"""The plugin in the README is a real one: it loads by name, shows its schema and runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from app import TaskContext
from app.config.plugins import load_plugins
from app.tasks.registry import TaskSpec, build_registry

ROOT = Path(__file__).parents[2]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskSpec:
    readme = (ROOT / "README.md").read_text("utf-8")
    (source,) = re.findall(r"```python\n(# word_tools\.py\n.+?)```", readme, re.DOTALL)
    (tmp_path / "word_tools.py").write_text(source, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "word_tools", raising=False)
    return build_registry(load_plugins(["word_tools"])).get("text.count_words")


def test_the_example_is_registered_with_its_schema(example: TaskSpec) -> None:
    assert example.plugin == "text"
    assert example.description == "Count the words of a text."
    assert example.options.max_attempts == 5
    properties = example.signature.params_schema["properties"]
    assert set(properties) == {"text", "top"}
    assert properties["top"]["default"] == 10


async def test_the_example_runs(example: TaskSpec) -> None:
    class Context(TaskContext):
        """A context without a run: it only takes the progress."""

        def __init__(self) -> None:
            self.reported: list[tuple[float, float | None, str | None]] = []

        async def progress(
            self, current: float, total: float | None = None, message: str | None = None
        ) -> None:
            self.reported.append((current, total, message))

    context = Context()
    words = await example.function(context, "to be or not to be", top=2)
    assert [(item.word, item.count) for item in words] == [("to", 2), ("be", 2)]
    assert context.reported == [(1, 1, "counted")]


def test_the_example_keeps_our_own_rules(example: TaskSpec, tmp_path: Path) -> None:
    files = [str(ROOT / "pyproject.toml"), str(tmp_path / "word_tools.py")]
    answer = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--check", "--config", *files],
        capture_output=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout
