"""What a process loads with a plugin, seen in a fresh interpreter."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

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
    for heavy in ("fastapi", "uvicorn"):
        if heavy in worker:
            yield Fault(
                "processes",
                f"{plugin.module}.tasks",
                f"A worker would load {heavy}.",
                "Import it in routes.py only, directly and indirectly.",
            )
    engine = f"{plugin.module}.engine"
    if engine in api:
        yield Fault(
            "processes",
            engine,
            "The API would load the heavy library behind engine.py.",
            "Import engine.py inside the function that uses it.",
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
