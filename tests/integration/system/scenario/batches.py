"""Many runs at once, and runs again."""

import time
from typing import Any

import httpx2

from tests.integration.system.main_job import WAIT_SECONDS, run_task
from tests.integration.system.recording import seen

COUNT = {"task": "text.count_words", "params": {"text": "a b a"}}
LATER = {**COUNT, "options": {"delay_seconds": 600}}


def batches(client: httpx2.Client) -> list[Any]:
    """Accept a batch and wait for its end; cancel another; send one with a fault."""
    accepted = client.post("/tasks/run/batch", json={"items": [COUNT, COUNT, COUNT]})
    path = f"/batches/{accepted.json()['batch_id']}"
    later = client.post("/tasks/run/batch", json={"items": [LATER, LATER]})
    faulty = {"items": [COUNT, {"task": "text.count_words", "params": {"text": 7}}]}
    listed = {"batch_id": accepted.json()["batch_id"], "status": "SUCCEEDED"}
    return [
        seen(accepted),
        seen(ended(client, path, 3)),
        len(client.get("/tasks", params=listed).json()["items"]),
        seen(client.post(f"/batches/{later.json()['batch_id']}/cancel")),
        seen(client.post("/tasks/run/batch", json=faulty)),
        seen(client.post("/tasks/run/batch", json={"items": []})),
        seen(client.get("/batches/01890000-0000-7000-8000-000000000000")),
    ]


def rerun(client: httpx2.Client) -> list[Any]:
    """Run an ended run again, as it was and with other parameters."""
    run = run_task(client, "text.count_words", {"text": "a b a"})
    path = f"/tasks/{run['task_id']}/rerun"
    again = client.post(path)
    edited = client.post(path, json={"params": {"text": "x"}}, headers={"Prefer": "wait=30"})
    origin = client.get(f"/tasks/{again.json()['task_id']}").json()["replay_of"]
    return [
        seen(again),
        origin == run["task_id"],
        seen(edited),
        seen(client.post(path, json={"params": {"text": 7}})),
    ]


def ended(client: httpx2.Client, path: str, total: int) -> httpx2.Response:
    """Return the answer that tells of a batch whose runs have all ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        answer = client.get(path)
        if answer.json()["finished"] == total:
            return answer
        time.sleep(0.1)
    raise TimeoutError(f"{path} has not ended")
