"""Settings and plugins: `settings.yaml` and the environment become frozen models."""

from app.config.loading import load_settings
from app.config.settings import Settings

__all__ = ["Settings", "load_settings"]
