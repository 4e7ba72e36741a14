"""What a plugin's files import, and which tasks in them nobody would find. Nothing is executed."""

import ast
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path

from app.config.plugins import BUILT_IN, LoadedPlugin
from app.tasks.registry import Registry
from app.testing.checks.fault import Fault
from app.testing.checks.tasks import place_of

_WEB = ("fastapi", "starlette")
_NEVER = {
    "celery": "The queue is the core's: use ctx.submit(…) and raise Retry(…).",
    "kombu": "The queue is the core's: use ctx.submit(…).",
    "redis": "Use ctx.cache, which works without Redis as well.",
    "alembic": "Alembic belongs into migrations/ only.",
    "uvicorn": "The core serves the routes.",
    "app.celery_worker": "Use ctx.submit(…) and ctx.cache; the queue's adapter may change.",
    "app.main": "The core puts the parts together, not a plugin.",
    "app.cli": "The command line is no part of the surface.",
    "app.testing": "The test kit is for tests.",
}


def check_sources(plugin: LoadedPlugin, registry: Registry) -> Iterator[Fault]:
    """Yield wrong imports, and tasks that are declared where the core does not look."""
    root = import_module(plugin.module).__file__
    if root is None:
        yield Fault(
            "sources", plugin.module, "The package has no __init__.py.", "Add an empty one."
        )
        return
    files = _files_of(Path(root), is_package=plugin.is_package)
    known = {place_of(spec) for spec in registry.specs()}
    for file, module in _named(files, plugin):
        tree = ast.parse(file.read_text("utf-8"), str(file))
        is_web = file.name == "routes.py" or _is_below(module, f"{plugin.module}.routes")
        yield from _check_imports(tree, file, plugin, is_web=is_web)
        yield from _check_declared(tree, file, module, known)


def _files_of(root: Path, *, is_package: bool) -> list[Path]:
    if not is_package:
        return [root]
    outside = {"migrations", "tests"}
    folder = root.parent
    return sorted(
        file
        for file in folder.rglob("*.py")
        if not outside & set(file.relative_to(folder).parts[:-1])
    )


def _named(files: Iterable[Path], plugin: LoadedPlugin) -> Iterator[tuple[Path, str]]:
    for file in files:
        if not plugin.is_package:
            yield file, plugin.module
            continue
        root = Path(str(import_module(plugin.module).__file__)).parent
        parts = file.relative_to(root).with_suffix("").parts
        yield file, ".".join((plugin.module, *(part for part in parts if part != "__init__")))


def _check_imports(
    tree: ast.Module, file: Path, plugin: LoadedPlugin, *, is_web: bool
) -> Iterator[Fault]:
    for name, line in _imported(tree):
        where = f"{file}:{line}"
        if _is_below(name, BUILT_IN) and not _is_below(name, plugin.module) and name != BUILT_IN:
            yield Fault(
                "imports",
                where,
                f"It imports another plugin ({name}).",
                "Submit that plugin's task with ctx.submit(…), or copy what you need.",
            )
        if any(_is_below(name, web) for web in _WEB) and not is_web:
            yield Fault(
                "imports",
                where,
                f"It imports {name} outside of routes.py, so a worker would load "
                "the web framework.",
                "Keep what needs it in routes.py, or in files of a package routes/.",
            )
        for never, cure in _NEVER.items():
            if _is_below(name, never):
                yield Fault("imports", where, f"It imports {name}.", cure)


def _imported(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from (
                (f"{node.module}.{alias.name}", node.lineno)
                for alias in node.names
                if node.module == BUILT_IN
            )


def _is_below(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


def _check_declared(tree: ast.Module, file: Path, module: str, known: set[str]) -> Iterator[Fault]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if any(_is_declaration(one) for one in node.decorator_list) and (
            f"{module}.{node.name}" not in known
        ):
            yield Fault(
                "tasks",
                f"{file}:{node.lineno}",
                f"The task function '{node.name}' is declared where the core does not find it.",
                "Put it at the top level of tasks.py, or import it there.",
            )


def _is_declaration(node: ast.expr) -> bool:
    called = node.func if isinstance(node, ast.Call) else node
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    return name == "register_task"
