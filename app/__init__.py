"""Taskyard: the surface for authors of plugins.

The names are loaded when they are first used, so that a command line that only
prints its help does not pay for a database library.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.config.plugins import Plugin
    from app.tasks.context import TaskContext
    from app.tasks.declaration import register_task
    from app.tasks.results import StoredResult
    from app.tasks.retry import Fatal, Retry
    from app.tasks.schedule_declaration import Schedule

__version__ = "0.1.0"

__all__ = [
    "Fatal",
    "Plugin",
    "Retry",
    "Schedule",
    "StoredResult",
    "TaskContext",
    "__version__",
    "register_task",
]

_HOME = {
    "Fatal": "app.tasks.retry",
    "Plugin": "app.config.plugins",
    "Retry": "app.tasks.retry",
    "Schedule": "app.tasks.schedule_declaration",
    "StoredResult": "app.tasks.results",
    "TaskContext": "app.tasks.context",
    "register_task": "app.tasks.declaration",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        message = f"module 'app' has no attribute '{name}'"
        raise AttributeError(message)
    return getattr(importlib.import_module(_HOME[name]), name)
