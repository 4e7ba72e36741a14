"""Parallel clients of a served API of two processes on Postgres: a key makes one run."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.contract.api.harness import Recorder, build, make_callers, migrate
from tests.integration.api.served import FOLDER, POSTGRES, postgres_settings
from tests.integration.api.storm import ASK_AGAIN, BATCH, RUN, storm, with_other_bodies
from tests.services import Services

log = logging.getLogger(__name__)
KEYS = int(os.environ.get("STORM_KEYS", "10"))
CLIENTS = 50
pytestmark = pytest.mark.timeout(120 + 8 * KEYS)


@dataclass
class Served:
    url: str
    token: str
    postgres_url: str

    def count(self, table: str) -> int:
        engine = create_engine(self.postgres_url.replace("+asyncpg", "+psycopg"))
        with engine.connect() as connection:
            found = connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
        engine.dispose()
        return int(found)


@pytest.fixture(scope="module")
def served(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("storm")
    postgres_url = services.create_database("postgres")
    settings = postgres_settings(folder, postgres_url)
    migrate(settings)
    _, parts = build(settings, Recorder())
    token = asyncio.run(make_callers(parts))["operator"]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["uvicorn", "tests.integration.api.served:create", "--factory", "--workers", "2"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port), "--no-access-log"],
            cwd=Path(__file__).parents[3],
            env={**os.environ, FOLDER: str(folder), POSTGRES: postgres_url},
            stdout=log,
            stderr=log,
        )
        try:
            _await_port(port, process)
            yield Served(f"http://127.0.0.1:{port}", token, postgres_url)
        finally:
            process.terminate()
            process.wait(20)


def _await_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


@pytest.mark.parametrize(("path", "runs"), [(RUN, 1), (BATCH, 2)])
def test_fifty_clients_of_each_key_make_one_answer(served: Served, path: str, runs: int) -> None:
    before = served.count("task_runs")
    seen = asyncio.run(storm(served.url, served.token, path, keys=KEYS, clients=CLIENTS))
    log.info("%s: %s, %d replayed, %.1f s", path, seen.statuses, seen.replayed, seen.seconds)
    assert set(seen.statuses) <= {202, *ASK_AGAIN}
    assert seen.statuses[202] == KEYS * CLIENTS
    assert [len(answers) for answers in seen.answers.values()] == [1] * KEYS
    assert served.count("task_runs") - before == KEYS * runs
    assert seen.replayed == KEYS * (CLIENTS - 1)
    codes = asyncio.run(with_other_bodies(served.url, served.token, path, KEYS))
    assert codes == {"422 IDEMPOTENCY_KEY_REUSED": KEYS}
    assert served.count("task_runs") - before == KEYS * runs
