"""The manifest of the archive plugin."""

from app.config.plugins import Plugin
from app.plugins.archive.settings import ArchiveSettings

PLUGIN = Plugin(
    name="archive",
    version="1.0.0",
    description="Expand ZIP archives on the storage, safely.",
    settings_model=ArchiveSettings,
)
