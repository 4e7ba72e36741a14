"""The registry, runs, and what can be seen of them."""

import json
from typing import Any

import httpx2

from tests.integration.system.main_job import run_task
from tests.integration.system.recording import seen, without_chance

# What of a dead letter comes with its message, which the archive may not have taken yet.
FROM_THE_QUEUE = {"message", "headers", "death_history"}
COUNT = {"task": "text.count_words", "params": {"text": "a b a"}}


def registry(client: httpx2.Client) -> list[Any]:
    """Read the registry; derive a task, use it and remove it."""
    derived = {"name": "text.count_two", "base_task": "text.count_words", "params": {"top": 2}}
    return [
        seen(client.get("/tasks/registered")),
        seen(client.get("/tasks/registered/text.count_words")),
        seen(client.get("/tasks/registered/text.count_word")),
        seen(client.post("/tasks/register", json=derived)),
        seen(client.get("/tasks/registered/text.count_two")),
        seen(client.delete("/tasks/registered/text.count_two")),
        seen(client.delete("/tasks/registered/text.count_words")),
    ]


def submission(client: httpx2.Client) -> list[Any]:
    """Run a task with every option, twice with one key, and read what it left."""
    body = {**COUNT, "labels": {"team": "blue"}, "options": {"priority": 8, "max_attempts": 2}}
    headers = {"Idempotency-Key": "order 17", "Prefer": "wait=30"}
    first = client.post("/tasks/run", json=body, headers=headers)
    again = client.post("/tasks/run", json=body, headers=headers)
    other = client.post("/tasks/run", json=COUNT, headers=headers)
    run = first.json()
    path = f"/tasks/{run['task_id']}"
    return [
        seen(first),
        (again.json()["task_id"] == run["task_id"], again.headers["Idempotency-Replayed"]),
        seen(other),
        seen(client.get(path)),
        seen(client.get(f"{path}/result")),
        seen(client.get(f"{path}/events")),
        seen(client.get(f"{path}/logs")),
        seen(client.get("/tasks", params={"label.team": "blue", "status": "SUCCEEDED"})),
        seen(client.get("/tasks", params={"status": "NOT_A_STATUS"})),
        seen(client.get("/tasks/01890000-0000-7000-8000-000000000000")),
    ]


def cancelled(client: httpx2.Client) -> list[Any]:
    """Cancel a run that is not due yet."""
    later = {**COUNT, "options": {"delay_seconds": 600}}
    accepted = client.post("/tasks/run", json=later)
    path = accepted.json()["links"]["self"].removeprefix("/api/v1")
    return [
        seen(accepted),
        seen(client.get(f"{path}/result")),
        seen(client.post(f"{path}/cancel")),
        seen(client.post(f"{path}/cancel")),
        seen(client.get(f"{path}/events")),
    ]


def failed(client: httpx2.Client) -> list[Any]:
    """Let a run fail for good; look at its dead letter, replay it, discard it."""
    run = run_task(client, "text.succeed_at", {"attempt": 9}, max_attempts=1)
    path = f"/dead-letters/{run['dead_letter_id']}"
    letter = client.get(path)
    listed = client.get("/dead-letters", params={"task": "text.succeed_at", "limit": 1})
    groups = client.get("/dead-letters/groups", params={"task": "text.succeed_at"})
    replayed = client.post(f"{path}/replay", json={"params": {"attempt": 1}})
    dry = {"filter": {"task": "text.succeed_at"}, "dry_run": True}
    other = run_task(client, "text.succeed_at", {"attempt": 9}, max_attempts=1)
    discard = {"filter": {"task": "text.succeed_at"}, "reason": "a test"}
    status, told = seen(letter)
    return [
        (status, {name: told[name] for name in told.keys() - FROM_THE_QUEUE}),
        seen(listed)[0],
        seen(groups),
        seen(replayed),
        seen(client.post(f"{path}/replay", json={}))[0],
        seen(client.post("/dead-letters/replay", json=dry)),
        seen(client.delete(f"/dead-letters/{other['dead_letter_id']}")),
        seen(client.post("/dead-letters/discard", json=discard)),
    ]


def followed(client: httpx2.Client) -> list[Any]:
    """Follow a run that tells much by its stream, and a part of it again."""
    run = run_task(client, "text.tell_much", {"text": "a b a"})
    path = f"/tasks/{run['task_id']}"
    told = events(client, f"{path}/stream")
    middle = next(event["id"] for event in told if event["event"] == "log")
    rest = events(client, f"{path}/stream", {"Last-Event-ID": middle})
    children = client.get("/tasks", params={"parent_id": run["task_id"]}).json()["items"]
    return [
        [
            (event["event"], without_chance(json.loads(event["data"])))
            for event in told
            # How much of the progress is kept on the way is a question of time.
            if event["event"] != "progress"
        ],
        rest == told[[event["id"] for event in told].index(middle) + 1 :],
        seen(client.get(f"{path}/logs")),
        seen(client.get(f"{path}/children")),
        [child["task"] for child in children],
        client.get(f"{path}/stream", headers={"Last-Event-ID": told[-1]["id"]}).status_code,
    ]


def events(
    client: httpx2.Client, path: str, headers: dict[str, str] | None = None
) -> list[dict[str, str]]:
    """Return the server-sent events of an ended run, each with its fields."""
    blocks = client.get(path, headers=headers).text.split("\n\n")
    fields = [
        dict(line.split(": ", 1) for line in block.splitlines() if ": " in line) for block in blocks
    ]
    return [event for event in fields if "event" in event]
