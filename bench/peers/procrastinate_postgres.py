"""procrastinate: jobs in PostgreSQL, history included.

Fair settings: two worker processes with ten jobs at once each, woken by LISTEN/NOTIFY (its
default), finished jobs kept (its default); a batch is deferred by one `batch_defer`.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Sequence

import procrastinate
import psycopg

from bench.peers.adapter import POSTGRES_URL, Adapter, one_each, tool
from bench.peers.tally import stamp, tick

_AT_ONCE = 10
app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(conninfo=os.environ[POSTGRES_URL]),
)


@app.task(name="nothing")
async def nothing() -> None:
    tick()


@app.task(name="stamped")
async def stamped(sent_ns: int) -> None:
    stamp(sent_ns)


async def _open() -> None:
    await app.open_async()


class Procrastinate(Adapter):
    """One producer on one loop."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._look = psycopg.connect(os.environ[POSTGRES_URL], autocommit=True)

    def worker(self, profile: str) -> Sequence[str]:
        del profile
        module = "bench.peers.procrastinate_postgres.app"
        return one_each(
            [tool("procrastinate"), "-a", module, "worker", "--concurrency", str(_AT_ONCE)]
        )

    def prepare(self) -> None:
        command = [tool("procrastinate"), "-a", "bench.peers.procrastinate_postgres.app"]
        subprocess.run([*command, "schema", "--apply"], check=True, stdout=sys.stderr)
        self._runner.run(_open())

    def fill(self, count: int) -> None:
        self._runner.run(nothing.batch_defer_async(*[{} for _ in range(count)]))

    def stamped(self) -> None:
        self._runner.run(stamped.defer_async(sent_ns=time.monotonic_ns()))

    def outcomes(self) -> int:
        query = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"
        row = self._look.execute(query).fetchone()
        return int(row[0]) if row else 0

    def clear(self) -> None:
        self._look.execute("TRUNCATE procrastinate_jobs CASCADE")

    def remove(self) -> None:
        self._runner.run(app.close_async())


def open_adapter() -> Adapter:
    return Procrastinate()
