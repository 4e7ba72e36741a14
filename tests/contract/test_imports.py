"""Each process loads only what it needs, and a name means the library that it should."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = {"fastapi", "starlette", "uvicorn"}
QUEUE = {"celery", "kombu"}
REPORT = "import json, sys; print(json.dumps(sorted({n.split('.')[0] for n in sys.modules})))"


def loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has loaded after running the code."""
    program = f"{code}\n{REPORT}"
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert answer.returncode == 0, answer.stderr
    return set(json.loads(answer.stdout.splitlines()[-1]))


def test_the_surface_for_plugin_authors_is_light() -> None:
    loaded = loaded_by("import app")
    assert loaded & (WEB | QUEUE | {"sqlfluff", "sqlalchemy", "redis"}) == set()


def test_every_name_of_the_surface_is_there_without_the_web_or_the_queue() -> None:
    loaded = loaded_by("import app\nfor name in app.__all__: getattr(app, name)")
    assert loaded & (WEB | QUEUE | {"sqlfluff"}) == set()


def test_a_worker_loads_no_web_framework() -> None:
    loaded = loaded_by(
        "from app.celery_worker import celery_app, worker, beat, publisher\n"
        "from app.config import load_settings\n"
        "from app.tasks.services import load_code\n"
        "plugins, registry = load_code(load_settings(environ={}))\n"
        "[plugin.load('models') for plugin in plugins]\n"
        "assert registry.names()"
    )
    assert "celery" in loaded
    assert loaded & WEB == set()


def test_the_api_loads_no_linter() -> None:
    loaded = loaded_by(
        "import app.main, app.api.application\n"
        "from app.config import load_settings\n"
        "from app.tasks.services import load_code\n"
        "plugins, registry = load_code(load_settings(environ={}))\n"
        "assert any(plugin.load('routes') for plugin in plugins)"
    )
    assert "fastapi" in loaded
    assert "sqlfluff" not in loaded


def test_the_command_line_is_light() -> None:
    loaded = loaded_by("import app.cli")
    assert loaded & (WEB | QUEUE | {"sqlfluff", "sqlalchemy", "alembic"}) == set()


@pytest.mark.parametrize("name", ["redis", "celery"])
def test_a_library_is_not_hidden_by_a_room_of_ours(name: str) -> None:
    """`app/` is never on the path, so `import redis` cannot mean app/redis."""
    origin = importlib.import_module(name).__file__
    assert origin is not None
    assert "site-packages" in Path(origin).parts
    assert str(ROOT / "app") not in sys.path
