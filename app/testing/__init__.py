"""The test kit for authors of plugins: part of the public surface, like `app` itself.

The fixtures are in `app.testing.fixtures` (`pytest_plugins = ["app.testing.fixtures"]`).
"""

from app.testing.callers import Somebody
from app.testing.checking import Fault, PluginFaults, check_plugin, find_faults
from app.testing.kit import Kit, open_kit
from app.testing.runs import Run
from app.testing.transport import MemoryBroker, MemoryTransport

__all__ = [
    "Fault",
    "Kit",
    "MemoryBroker",
    "MemoryTransport",
    "PluginFaults",
    "Run",
    "Somebody",
    "check_plugin",
    "find_faults",
    "open_kit",
]
