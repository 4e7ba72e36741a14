"""The manifest of the SQL lint plugin."""

from app.config.plugins import Plugin
from app.plugins.lint.settings import LintSettings

PLUGIN = Plugin(
    name="lint",
    version="1.0.0",
    description="Lint SQL texts, files and ZIP archives with SQLFluff in a sandbox.",
    settings_model=LintSettings,
)
