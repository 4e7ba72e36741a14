"""Schedules: one that fires by itself, one that is looked at, changed and removed."""

import time
from typing import Any

import httpx2

from tests.integration.system.recording import seen

COUNT = {"task": "text.count_words", "params": {"text": "a b a"}}
_PATIENCE_SECONDS = 30.0


def managed(client: httpx2.Client) -> list[Any]:
    """Make a schedule of times that do not come now, and call every route on it."""
    wish = {**COUNT, "name": "leap years", "cron": "30 2 29 2 *", "timezone": "Europe/Berlin"}
    made = client.post("/schedules", json=wish)
    path = f"/schedules/{made.json()['id']}"
    preview = client.get(f"{path}/preview", params={"count": 3})
    return [
        seen(made),
        seen(client.post("/schedules", json=wish)),
        seen(client.post("/schedules", json={**wish, "name": "never", "cron": "0 0 30 2 *"})),
        seen(client.get(path)),
        seen(client.get("/schedules", params={"name": "leap years"})),
        (preview.status_code, [one["local_time"][4:] for one in preview.json()["items"]]),
        seen(client.post(f"{path}/run")),
        seen(client.get(f"{path}/firings")),
        seen(client.patch(path, json={"is_active": False})),
        seen(client.delete(path)),
        seen(client.get(path)),
    ]


def fired(client: httpx2.Client) -> list[Any]:
    """Let a schedule fire each second until its first run has ended."""
    wish = {**COUNT, "name": "each second", "interval_seconds": 1, "overlap": "skip"}
    schedule_id = client.post("/schedules", json=wish).json()["id"]
    runs: list[dict[str, Any]] = []
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not runs and time.monotonic() < deadline:
        time.sleep(0.2)
        query = {"schedule_id": schedule_id, "status": "SUCCEEDED"}
        runs = client.get("/tasks", params=query).json()["items"]
    client.patch(f"/schedules/{schedule_id}", json={"is_active": False})
    oldest = client.get(f"/schedules/{schedule_id}/firings").json()["items"][-1]
    told = [(oldest["outcome"], oldest["trigger"]), runs and runs[-1]["result"]]
    client.delete(f"/schedules/{schedule_id}")
    return told
