"""What an operator does: pause queues, drain workers, and ask why a run waits."""

from typing import Any

import httpx2

from tests.integration.system.recording import seen

COUNT = {"task": "text.count_words", "params": {"text": "a b a"}}


def queues(client: httpx2.Client) -> list[Any]:
    """Pause a queue, see what that does to a run, and resume it."""
    listed = client.get("/queues")
    paused = client.post("/queues/default/pause", json={"reason": "a test"})
    later = {**COUNT, "options": {"delay_seconds": 3600}}
    path = f"/tasks/{client.post('/tasks/run', json=later).json()['task_id']}"
    why = client.get(f"{path}/explain")
    return [
        (listed.status_code, [one["name"] for one in listed.json()["items"]]),
        (paused.status_code, paused.json()["paused"]),
        (why.status_code, "QUEUE_PAUSED" in [reason["code"] for reason in why.json()["reasons"]]),
        (
            client.post("/queues/default/resume").status_code,
            client.post(f"{path}/cancel").is_success,
        ),
        [reason["code"] for reason in client.get(f"{path}/explain").json()["reasons"]],
        seen(client.post("/queues/no_such_queue/pause")),
    ]


def workers(client: httpx2.Client) -> list[Any]:
    """Drain the worker and let it work again."""
    listed = client.get("/workers")
    name = listed.json()["items"][0]["name"]
    drained = client.post(f"/workers/{name}/drain", json={"reason": "a test"})
    resumed = client.post(f"/workers/{name}/resume")
    return [
        (listed.status_code, len(listed.json()["items"])),
        (drained.status_code, drained.json()["draining"]),
        (resumed.status_code, resumed.json()["draining"]),
        seen(client.post("/workers/nobody@nowhere/drain")),
    ]
