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
    own = {name: value for name, value in os.environ.items() if name.startswith("TASKYARD_STREAMS")}
    if url is None:
        settings = embedded_settings(folder, **own)
    else:
        settings = postgres_settings(folder, url, **own)
    app, _ = build(settings, Recorder())
    return app


def postgres_settings(folder: Path, url: str, **environ: str) -> Settings:
    """Return settings with runs on Postgres, so that several processes can serve."""
    own = {
        "TASKYARD_PLUGINS": f'["lint", "{SAMPLE}"]',
        "TASKYARD_SECRETS_DIR": str(folder / "none"),
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": url,
    }
    return load_settings(data_dir=folder, environ={**own, **environ})


if __name__ == "__main__":
    import sys

    import uvicorn

    from app.main import server_config

    application = create()
    settings = application.state.services.core.settings
    config = server_config(
        application, settings, port=int(sys.argv[1]), timeout_graceful_shutdown=60
    )
    uvicorn.Server(config).run()
