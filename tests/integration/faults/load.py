"""A client that never gives up: it submits runs through the API at a pace, whatever is broken.

Each run has an idempotency key, so a request whose answer was lost is asked again without making a
second run. What the service has answered 202 to is what it has promised.
"""

import asyncio
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2 as httpx

from tests.integration.faults.stack import Stack

_CLIENTS = 16
_AGAIN_SECONDS = 0.25
_PATIENCE_SECONDS = 120.0


@dataclass
class Answers:
    """What came back: accepted run ids, seconds of each 202, and every other answer."""

    accepted: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)

    def count_other(self, kind: str) -> None:
        self.others[kind] = self.others.get(kind, 0) + 1

    def quantile(self, share: float) -> float:
        """Return the seconds within which that share of the accepted answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


class Load:
    """So many runs at so many a second, from a thread of its own.

    `most_waiting` holds the next one back while so many runs wait: for a machine that is busy with
    other things, where a pace alone would pile up runs.
    """

    def __init__(
        self,
        stack: Stack,
        task: str,
        *,
        count: int,
        rate: float,
        params: Mapping[str, Any] | None = None,
        seed: int = 0,
        most_waiting: int | None = None,
    ) -> None:
        self.answers = Answers()
        self._stack = stack
        self._body = {"task": task, "params": dict(params or {})}
        self._count = count
        self._rate = rate
        self._most_waiting = most_waiting
        self._random = random.Random(seed)
        self._headers = stack.headers
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)

    def start(self) -> "Load":
        self._thread.start()
        return self

    def join(self) -> Answers:
        """Return the answers when every run has been accepted."""
        self._thread.join()
        return self.answers

    def stop(self) -> Answers:
        """Submit no more; return the answers so far."""
        self._stopped.set()
        return self.join()

    @property
    def is_done(self) -> bool:
        return not self._thread.is_alive()

    async def _run(self) -> None:
        turns: asyncio.Queue[int | None] = asyncio.Queue(maxsize=_CLIENTS)
        limits = httpx.Limits(max_connections=_CLIENTS)
        async with (
            httpx.AsyncClient(timeout=30, limits=limits, headers=self._headers) as client,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(_CLIENTS):
                group.create_task(self._client(client, turns))
            await self._pace(turns)

    async def _pace(self, turns: asyncio.Queue[int | None]) -> None:
        start = time.monotonic()
        for turn in range(self._count):
            if self._stopped.is_set():
                break
            await asyncio.sleep(max(0.0, start + turn / self._rate - time.monotonic()))
            while await asyncio.to_thread(self._is_full):  # noqa: ASYNC110 - a table has no event
                await asyncio.sleep(_AGAIN_SECONDS)
            await turns.put(turn)
        for _ in range(_CLIENTS):
            await turns.put(None)

    def _is_full(self) -> bool:
        if self._most_waiting is None or self._stopped.is_set():
            return False
        waiting = "SELECT count(*) FROM task_runs WHERE status IN ('PENDING', 'RETRYING')"
        return int(self._stack.ask(waiting)[0][0]) >= self._most_waiting

    async def _client(self, client: httpx.AsyncClient, turns: asyncio.Queue[int | None]) -> None:
        while (turn := await turns.get()) is not None:
            await self._submit(client, f"{self._stack.name}-{id(self):x}-{turn}")

    async def _submit(self, client: httpx.AsyncClient, key: str) -> None:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < deadline:
            before = time.monotonic()
            try:
                answer = await client.post(
                    f"{self._stack.url}/api/v1/tasks/run",
                    json=self._body,
                    headers={"Idempotency-Key": key},
                )
            except httpx.HTTPError as error:
                self.answers.count_other(type(error).__name__)
            else:
                if answer.status_code == 202:
                    self.answers.seconds.append(time.monotonic() - before)
                    self.answers.accepted.append(answer.json()["task_id"])
                    return
                self.answers.count_other(str(answer.status_code))
            await asyncio.sleep(_AGAIN_SECONDS * (0.5 + self._random.random()))
        self.answers.count_other("gave up")
