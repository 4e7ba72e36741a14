"""What commands on the host itself work with: settings, plugins, databases."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.config import Settings
    from app.config.plugins import LoadedPlugin
    from app.db import Databases


@dataclass(frozen=True, kw_only=True)
class Installation:
    """The installation that the current folder and the environment describe."""

    settings: "Settings"
    plugins: "tuple[LoadedPlugin, ...]"
    databases: "Databases"


def read_settings() -> "Settings":
    """Return the settings; raises ConfigurationError."""
    from app.common.logging import configure_logging
    from app.config import load_settings

    settings = load_settings()
    # Standard output is for what the command prints; below a warning nothing is of interest.
    configure_logging("WARNING", settings.logging.format)
    return settings


@contextmanager
def open_installation() -> Iterator[Installation]:
    """Yield the installation; at the end no thread's connection stays open."""
    from app.config.plugins import load_plugins
    from app.db import Databases

    settings = read_settings()
    databases = Databases(settings.databases)
    try:
        yield Installation(
            settings=settings, plugins=load_plugins(settings.plugins), databases=databases
        )
    finally:
        databases.dispose_sync()
