"""Many clients at once with one idempotency key each time: how many runs that makes."""

import asyncio
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx2

RUN = "/api/v1/tasks/run"
BATCH = "/api/v1/tasks/run/batch"
# The first request is under way, or the process has no connection to its database free.
ASK_AGAIN = {409, 503}


@dataclass
class Storm:
    """What the clients saw: answers by status, replays, and the answers of each key."""

    statuses: Counter[int] = field(default_factory=Counter)
    replayed: int = 0
    answers: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    seconds: float = 0.0


def body_of(path: str, number: int) -> dict[str, Any]:
    item = {"task": "sample.add_numbers", "params": {"a": number}}
    return {"items": [item, item]} if path == BATCH else item


async def storm(url: str, token: str, path: str, *, keys: int, clients: int) -> Storm:
    """Let every client send the request of each key, all in the same order and at once."""
    seen = Storm()
    headers = {"Authorization": f"Bearer {token}"}

    async def one_client() -> None:
        async with httpx2.AsyncClient(
            base_url=url, headers=headers, timeout=60, trust_env=False
        ) as client:
            for number in range(keys):
                await _send(client, path, number, seen)

    start = time.monotonic()
    await asyncio.gather(*(one_client() for _ in range(clients)))
    seen.seconds = time.monotonic() - start
    return seen


async def _send(client: httpx2.AsyncClient, path: str, number: int, seen: Storm) -> None:
    key = f"{path}-{number}"
    while True:
        answer = await client.post(
            path, json=body_of(path, number), headers={"Idempotency-Key": key}
        )
        seen.statuses[answer.status_code] += 1
        if answer.status_code not in ASK_AGAIN:
            break
        await asyncio.sleep(float(answer.headers["retry-after"]))
    document = answer.json()
    seen.replayed += answer.headers.get("idempotency-replayed") == "true"
    seen.answers[key].add(str(document.get("task_id") or document.get("task_ids")))


async def with_other_bodies(url: str, token: str, path: str, keys: int) -> Counter[str]:
    """Send every key once more with another body; return how often each code was answered."""
    codes: Counter[str] = Counter()
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False) as client:
        for number in range(keys):
            answer = await client.post(
                path,
                json=body_of(path, number + 100_000),
                headers={"Idempotency-Key": f"{path}-{number}"},
            )
            codes[f"{answer.status_code} {answer.json()['code']}"] += 1
    return codes
