"""What a submission may ask for, and what is said when it asks wrongly."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.integration.system.main_job import run_task
from tests.integration.system.recording import seen

COUNT = "text.count_words"
PARAMS = {"text": "a b a"}


def options(client: httpx2.Client) -> list[Any]:
    """Use every option of a run, waiting for it and not."""
    late = _in(client, 3600)
    kept = run_task(
        client, COUNT, PARAMS, queue="lint", priority=0, max_attempts=7, timeout_seconds=11
    )
    soon = _in(client, 3)
    at_time = run_task(client, COUNT, PARAMS, run_at=soon)
    expired = run_task(client, COUNT, PARAMS, delay_seconds=60, expires_at=_in(client, 3))
    patient = client.post(
        "/tasks/run",
        json={"task": COUNT, "params": PARAMS, "options": {"run_at": late, "expires_at": None}},
        headers={"Prefer": "wait=1"},
    )
    return [
        [kept[name] for name in ("status", "queue", "priority", "max_attempts")],
        (
            at_time["status"],
            at_time["started_at"] >= soon,
            at_time["scheduled_for"][:19] == soon[:19],
        ),
        (expired["status"], expired["attempt"], expired["dead_letter_id"]),
        seen(client.get(f"/tasks/{expired['task_id']}/explain"))[0],
        (patient.status_code, patient.json()["status"], "Location" in patient.headers),
        client.post(
            f"{patient.json()['links']['self'].removeprefix('/api/v1')}/cancel"
        ).status_code,
    ]


def wrong(client: httpx2.Client) -> list[Any]:
    """Ask for what cannot be."""
    asked: list[dict[str, Any]] = [
        {"delay_seconds": 1, "run_at": _in(client, 60)},
        {"delay_seconds": -1},
        {"priority": 10},
        {"priority": "5"},
        {"queue": "no_such_queue"},
        {"max_attempts": 0},
        {"timeout_seconds": 10_000_000},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"run_at": "tomorrow"},
        {"colour": "red"},
    ]
    large = {"task": COUNT, "params": {"text": "x" * 300_000}}
    answers = [
        *(
            client.post("/tasks/run", json={"task": COUNT, "params": PARAMS, "options": one})
            for one in asked
        ),
        client.post("/tasks/run", json={"task": COUNT, "params": PARAMS, "labels": {"a b": "c"}}),
        client.post("/tasks/run", json=large),
        client.post("/tasks/run", json={"task": COUNT}, headers={"Prefer": "wait=soon"}),
        client.post("/tasks/run", json={"task": COUNT}, headers={"Idempotency-Key": ""}),
    ]
    return [
        (
            one.status_code,
            one.json()["code"],
            [error["loc"] for error in one.json().get("errors", ())],
        )
        for one in answers
    ]


def _in(client: httpx2.Client, seconds: float) -> str:
    """Return a moment from now on, by the service's clock."""
    told = client.get("/auth/me").headers["date"]
    now = datetime.strptime(told, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC)
    return (now + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
