"""What a process loads with a plugin, seen in a fresh interpreter."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from app.config.plugins import LoadedPlugin
from app.testing.checks.fault import Fault

_PROGRAM = """
import importlib, importlib.util, json, sys
def load(*parts):
    importlib.import_module("{module}")
    for part in parts:
        if {is_package!r} and importlib.util.find_spec("{module}." + part):
            importlib.import_module("{module}." + part)
    return sorted(sys.modules)
print(json.dumps([load("tasks", "models"), load("routes")]))
"""


def check_processes(plugin: LoadedPlugin) -> Iterator[Fault]:
    """Yield what a worker or the API would load without need."""
    worker, api = _loaded(plugin)
    for web in ("fastapi", "uvicorn"):
        if web in worker:
            yield Fault(
                "processes",
                f"{plugin.module}.tasks",
                f"A worker would load {web}.",
                "Import it in routes.py only, directly and indirectly.",
            )
    engine = f"{plugin.module}.engine"
    # One that imports its library inside a function weighs nothing.
    if engine in api and (heavy := _libraries_of(engine)):
        yield Fault(
            "processes",
            engine,
            f"The API would load the heavy library behind engine.py ({', '.join(heavy)}).",
            "Import engine.py, or the library in it, inside the function that uses it.",
        )


def _loaded(plugin: LoadedPlugin) -> tuple[set[str], set[str]]:
    """Return the modules that a worker has loaded with the plugin, and those of the API."""
    program = _PROGRAM.format(module=plugin.module, is_package=plugin.is_package)
    path = os.pathsep.join(part for part in sys.path if part)
    answer = subprocess.run(  # noqa: S603 - this interpreter, on a program of ours
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    worker, api = json.loads(answer.stdout.splitlines()[-1])
    return set(worker), set(api)


def _libraries_of(module: str) -> list[str]:
    """Return the foreign packages that the module imports at its top level."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return []
    names = set()
    for node in ast.parse(Path(spec.origin).read_text("utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return sorted(names - set(sys.stdlib_module_names) - {"app", module.partition(".")[0]})
