"""A service of the command's own: the embedded form on a free port, gone when the command ends."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from app.common.logging import configure_logging
from app.config import load_settings
from app.main import create_embedded_api, first_admin, free_socket, migrate, server_config


@contextmanager
def own_service(folder: Path) -> Iterator[tuple[str, str]]:
    """Start it with its data in the folder; yield its address and the first admin's token."""
    settings = load_settings(data_dir=folder, embedded=True)
    configure_logging("ERROR", settings.logging.format)
    migrate(settings)
    _, token = asyncio.run(first_admin(settings))
    listening = free_socket("127.0.0.1", 0)
    server = uvicorn.Server(server_config(create_embedded_api(settings), settings))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="own-api")
    thread.start()
    try:
        while not server.started and thread.is_alive():
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", token
    finally:
        server.should_exit = True
        thread.join()
