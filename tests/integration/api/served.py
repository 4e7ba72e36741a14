"""The application behind a real server, in a process of its own, for what only a socket shows."""

import os
from pathlib import Path

from fastapi import FastAPI

from app.common.logging import configure_logging
from tests.contract.api.harness import Recorder, build, embedded_settings

FOLDER = "API_TEST_FOLDER"


def create() -> FastAPI:
    configure_logging("INFO", "json")
    app, _ = build(embedded_settings(Path(os.environ[FOLDER])), Recorder())
    return app
