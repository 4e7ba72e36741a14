"""The test kit for authors of plugins: part of the public surface, like `app` itself.

The fixtures are in `app.testing.fixtures` (`pytest_plugins = ["app.testing.fixtures"]`).
"""

from app.testing.callers import Somebody
from app.testing.kit import Kit, open_kit
from app.testing.runs import Run
from app.testing.transport import MemoryBroker, MemoryTransport

__all__ = ["Kit", "MemoryBroker", "MemoryTransport", "Run", "Somebody", "open_kit"]
