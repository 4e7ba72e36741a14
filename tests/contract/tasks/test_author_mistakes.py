"""What an author may get wrong: each mistake is told with its file, its function and the cure."""

import itertools
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.common.errors import ConfigurationError
from app.config.plugins import load_plugins
from app.tasks.registry import build_registry

Load = Callable[[dict[str, str]], Any]
_numbers = itertools.count()
MANIFEST = "from app import Plugin\nPLUGIN = Plugin(name='{name}', version='1.0.0')\n"
HEAD = "from pydantic import BaseModel\nfrom app import TaskContext, register_task\n"
GOOD = (
    '@register_task("{name}.work")\n'
    'def work(size: int = 1) -> int:\n    """Work."""\n    return size\n'
)


class Mistake(NamedTuple):
    """The text of tasks.py (or of other files), and what has to be told about it."""

    files: str | dict[str, str]
    told: str
    cure: str
    place: str = "tasks.py, line"


def task(signature: str, body: str = "return None", options: str = "") -> str:
    return f'@register_task("{{name}}.work"{options})\n{signature}\n    """Work."""\n    {body}\n'


MISTAKES = {
    "a parameter without a type": Mistake(
        task("def work(size) -> None:"), "'size' of the task", "'size: str'", "work in "
    ),
    "a context without a type": Mistake(
        task("def work(ctx, size: int) -> None:"), "'ctx'", "'ctx: TaskContext'", "work in "
    ),
    "a context that comes second": Mistake(
        task("def work(size: int, ctx: TaskContext) -> None:"),
        "is not its first parameter",
        "def work(ctx: TaskContext, ...)",
        "work in ",
    ),
    "a context that may be absent": Mistake(
        task("def work(ctx: TaskContext | None = None) -> None:"),
        "is not its first parameter",
        "def work(ctx: TaskContext, ...)",
        "work in ",
    ),
    "positional arguments": Mistake(
        task("def work(*sizes: int) -> None:"), "'*sizes: int'", "list them one by one", "work in "
    ),
    "keyword arguments": Mistake(
        task("def work(**sizes: int) -> None:"), "'**sizes: int'", "one by one", "work in "
    ),
    "a parameter without a name of its own": Mistake(
        task("def work(size: int, /) -> None:"), "'size: int'", "passed by name", "work in "
    ),
    "no type of the result": Mistake(
        task("def work(size: int):"), "what it returns", "'-> None'", "work in "
    ),
    "no docstring": Mistake(
        '@register_task("{name}.work")\ndef work() -> None:\n    pass\n',
        "no docstring",
        "first line",
        "work in ",
    ),
    "a type that JSON does not know": Mistake(
        "import socket\n" + task("def work(there: socket.socket) -> None:"),
        "JSON cannot carry",
        "pydantic models",
        "work in ",
    ),
    "a result that JSON does not know": Mistake(
        "import socket\n" + task("def work() -> socket.socket:"),
        "JSON cannot carry",
        "pydantic models",
        "work in ",
    ),
    "a model with a type that is not there": Mistake(
        'class Order(BaseModel):\n    customer: "Customer"\n\n'
        + task("def work(order: Order) -> None:"),
        "Customer",
        "",
        "work in ",
    ),
    "an annotation that is not there": Mistake(
        task('def work(order: "Order") -> None:'),
        "'Order' is not defined",
        "module level",
        "work in ",
    ),
    "a Field as the default": Mistake(
        "from pydantic import Field\n" + task("def work(size: int = Field(gt=0)) -> None:"),
        "has a Field as its default",
        "Annotated[int, Field(gt=0)]",
        "work in ",
    ),
    "a generator": Mistake(task("def work() -> list[int]:", "yield 1"), "yields", "Return a list"),
    "a class": Mistake(
        '@register_task("{name}.work")\nclass Work:\n    """Work."""\n',
        "is no function",
        "function",
    ),
    "a method": Mistake(
        "class Work:\n    @staticmethod\n    def run() -> None:\n        pass\n\n"
        '    @register_task("{name}.work")\n    def work(self) -> None:\n        """Work."""\n\n\n'
        "work = Work.work\n",
        "'self'",
        "not a method",
        "Work.work in ",
    ),
    "no parentheses": Mistake(
        '@register_task\ndef work() -> None:\n    """Work."""\n', "needs a name", "parentheses"
    ),
    "a name without a dot": Mistake(
        GOOD.replace('"{name}.work"', '"work"'), "'work' is not a task name", "'text.count_words'"
    ),
    "a name in capitals": Mistake(
        GOOD.replace('"{name}.work"', '"Text.Work"'), "'Text.Work'", "lower case"
    ),
    "a misspelt option": Mistake(
        task("def work() -> None:", options=", timeout_second=5"),
        "unknown option 'timeout_second'",
        "'timeout_seconds'",
    ),
    "an option out of range": Mistake(
        task("def work() -> None:", options=", max_attempts=0"), "max_attempts=0", "1 to 100"
    ),
    "a duration that is no number": Mistake(
        "from datetime import timedelta\n"
        + task("def work() -> None:", options=", timeout_seconds=timedelta(minutes=1)"),
        "timeout_seconds=",
        "total_seconds",
    ),
    "an error that is no class": Mistake(
        task("def work() -> None:", options=", retry_on='OSError'"),
        "retry_on='OSError'",
        "retry_on=(OSError, TimeoutError)",
    ),
    "an alias that is no tuple": Mistake(
        task("def work() -> None:", options=", aliases='text.old'"), "aliases='text.old'", "a tuple"
    ),
    "a backoff above its bound": Mistake(
        task("def work() -> None:", options=", backoff_seconds=10, backoff_max_seconds=5"),
        "more than backoff_max_seconds",
        "seconds",
    ),
    "one function under two names": Mistake(
        '@register_task("{name}.other")\n' + GOOD, "cannot be", "aliases="
    ),
    "one name for two functions": Mistake(
        GOOD + GOOD.replace("def work", "def more"), "claimed by", "aliases=", ".tasks.work"
    ),
    "a line that is no Python": Mistake(
        GOOD + "def broken(:\n", "SyntaxError", "Mend the line", "tasks.py, line 7"
    ),
    "a package that is not installed": Mistake(
        "import no_such_library\n", "no_such_library", "Install 'no_such_library'"
    ),
    "a file that is not there": Mistake(
        "from {name}.modles import Note\n", "{name}.modles", "check the spelling"
    ),
    "a name that its module does not have": Mistake(
        "from app import register_tasks\n", "register_tasks", "Check the spelling"
    ),
    "two files that import each other": Mistake(
        {
            "tasks.py": "from {name}.service import serve\n\ndef help_out() -> None:\n    pass\n",
            "service.py": "from {name}.tasks import help_out\n\ndef serve() -> None:\n    pass\n",
        },
        "circular import",
        "a third one",
        "service.py, line 1",
    ),
    "a name that is not defined": Mistake("SIZE = LIMIT + 1\n", "'LIMIT'", "Import the name"),
    "work at the top level": Mistake("open('/no/such/file')\n", "/no/such/file", "in a task"),
    "the end of the process": Mistake("raise SystemExit(3)\n", "SystemExit", "__main__"),
    "no manifest": Mistake(
        {"plugin.py": "NAME = 'x'\n"}, "does not define PLUGIN", "PLUGIN = ", ""
    ),
    "no plugin.py": Mistake({"plugin.py": ""}, "does not define PLUGIN", "PLUGIN = ", ""),
    "a manifest without a version": Mistake(
        {"plugin.py": "from app import Plugin\nPLUGIN = Plugin(name='x')\n"},
        "version",
        "version=",
        "plugin.py, line 2",
    ),
}


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Load a package as a process does at its start."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write_and_load(files: dict[str, str]) -> Any:
        name = f"mistaken_{next(_numbers)}"
        (tmp_path / name).mkdir()
        for file, text in {"__init__.py": "", "plugin.py": MANIFEST, **files}.items():
            filled = textwrap.dedent(text).replace("{name}", name)
            (tmp_path / name / file).write_text(filled, "utf-8")
        return build_registry(load_plugins([name]))

    yield write_and_load
    for name in [name for name in sys.modules if name.startswith("mistaken_")]:
        del sys.modules[name]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.replace(" ", "-"))
def test_a_mistake_is_told_with_its_place_and_its_cure(case: str, load: Load) -> None:
    mistake = MISTAKES[case]
    files = {"tasks.py": HEAD + mistake.files} if isinstance(mistake.files, str) else mistake.files
    with pytest.raises(ConfigurationError) as caught:
        load(files)
    told = caught.value
    name = f"mistaken_{next(_numbers) - 1}"
    assert mistake.told.replace("{name}", name) in told.detail
    assert mistake.place in told.detail
    assert name in told.detail
    assert told.hint
    assert mistake.cure in told.hint


def test_what_the_mistakes_are_made_of_is_right_without_them(load: Load) -> None:
    registry = load({"tasks.py": HEAD + GOOD})
    assert [spec.signature.takes_context for spec in registry.specs()] == [False]


def test_a_mutable_default_is_not_shared_between_runs(load: Load) -> None:
    body = "sizes.append(1)\n    return sizes"
    text = HEAD + task("def work(sizes: list[int] = []) -> list[int]:", body)
    (spec,) = load({"tasks.py": text}).specs()
    assert [spec.function(**spec.read_params({})) for _ in range(2)] == [[1], [1]]


def test_the_program_itself_is_no_plugin() -> None:
    with pytest.raises(ConfigurationError, match="'__main__' is the program") as caught:
        load_plugins(["__main__"])
    assert caught.value.hint is not None
    assert "word_tools" in caught.value.hint


def test_a_package_without_a_manifest_file_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mistaken_bare").mkdir()
    (tmp_path / "mistaken_bare" / "__init__.py").touch()
    with pytest.raises(ConfigurationError, match="'mistaken_bare'") as caught:
        load_plugins(["mistaken_bare"])
    assert caught.value.hint is not None
    assert "Add the file plugin.py" in caught.value.hint


def test_a_plugin_that_nobody_named_is_told(load: Load) -> None:
    registry = load({"tasks.py": HEAD + GOOD})
    name = registry.names()[0].partition(".")[0]
    with pytest.raises(Exception, match=r"No task is called 'text\.count_words'") as caught:
        registry.get("text.count_words")
    assert "named in the setting 'plugins'?" in str(getattr(caught.value, "hint", ""))
    with pytest.raises(Exception, match="No task is called") as caught:
        registry.get(f"{name}.wrok")
    assert "Did you mean" in str(getattr(caught.value, "hint", ""))
