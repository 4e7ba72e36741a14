"""The services behind the routes."""

from typing import Annotated

from fastapi import Depends

from app.api.dependencies import CoreServices
from app.plugins.lint.service import LintJobs
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.stored_profiles import StoredProfiles


def get_settings(services: CoreServices) -> LintSettings:
    """Return the plugin's settings."""
    settings = services.plugin_settings.get("lint")
    return settings if isinstance(settings, LintSettings) else LintSettings()


Settings = Annotated[LintSettings, Depends(get_settings)]


def get_lint_jobs(services: CoreServices, settings: Settings) -> LintJobs:
    """Return the jobs."""
    return LintJobs(services, settings)


def get_profiles(services: CoreServices, settings: Settings) -> StoredProfiles:
    """Return the stored profiles."""
    return StoredProfiles(services.databases, settings)


Jobs = Annotated[LintJobs, Depends(get_lint_jobs)]
Profiles = Annotated[StoredProfiles, Depends(get_profiles)]
