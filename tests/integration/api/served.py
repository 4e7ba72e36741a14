"""The application behind a real server, in a process of its own, for what only a socket shows."""

import os
from pathlib import Path

from fastapi import FastAPI

from app.common.logging import configure_logging
from app.config import Settings, load_settings
from tests.contract.api.harness import SAMPLE, Recorder, build, embedded_settings

FOLDER = "API_TEST_FOLDER"
POSTGRES = "API_TEST_POSTGRES_URL"


def create() -> FastAPI:
    configure_logging("INFO", "json")
    folder, url = Path(os.environ[FOLDER]), os.environ.get(POSTGRES)
    settings = embedded_settings(folder) if url is None else postgres_settings(folder, url)
    app, _ = build(settings, Recorder())
    return app


def postgres_settings(folder: Path, url: str) -> Settings:
    """Return settings with runs on Postgres, so that several processes can serve."""
    environ = {
        "TASKYARD_PLUGINS": f'["lint", "{SAMPLE}"]',
        "TASKYARD_SECRETS_DIR": str(folder / "none"),
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": url,
    }
    return load_settings(data_dir=folder, environ=environ)
