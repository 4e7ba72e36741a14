"""The list of runs: every filter alone, pages, and what no list takes."""

from typing import Any

import httpx2

from tests.integration.system.main_job import run_task
from tests.integration.system.recording import seen

LABELS = {"list": "of runs"}


def lists(client: httpx2.Client) -> list[Any]:
    """Make a family of runs and find it by each filter."""
    body = {"task": "text.tell_much", "params": {"text": "a b a"}, "labels": LABELS}
    family = client.post("/tasks/run", json=body, headers={"Prefer": "wait=30"}).json()
    failed = run_task(client, "text.succeed_at", {"attempt": 9}, max_attempts=1)
    (child,) = client.get("/tasks", params={"parent_id": family["task_id"]}).json()["items"]
    filters: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"label.list": "of runs"}, family),
        ({"task": "text.tell_much"}, family),
        ({"parent_id": family["task_id"]}, child),
        ({"trace_id": family["trace_id"], "task": "text.tell_much"}, family),
        ({"queue": "default", "status": ["FAILED", "EXPIRED"]}, failed),
        ({"status": "FAILED", "q": "succeed_at"}, failed),
        ({"created_after": _before(failed), "status": "FAILED"}, failed),
    ]
    found = [client.get("/tasks", params={**query, "limit": 1}) for query, _ in filters]
    return [
        [
            (
                answer.status_code,
                [item["task_id"] for item in answer.json()["items"]] == [run["task_id"]],
            )
            for answer, (_, run) in zip(found, filters, strict=True)
        ],
        seen(client.get("/tasks", params={"created_before": family["created_at"], **LABELED})),
        _in_pages(client),
        [
            seen(client.get("/tasks", params=query))
            for query in (
                {"limit": 0},
                {"limit": 201},
                {"cursor": "x"},
                {"colour": "red"},
                {"parent_id": "x"},
            )
        ],
    ]


LABELED = {"label.list": "of runs"}


def _before(run: dict[str, Any]) -> str:
    """Return a moment just before a run was made: its own, without the last digits."""
    return f"{run['created_at'][:19]}Z"


def _in_pages(client: httpx2.Client) -> list[Any]:
    """Return whether three small pages are one large one."""
    query: dict[str, Any] = {"task": "text.count_words", "limit": 2}
    pages = [client.get("/tasks", params=query).json()]
    for _ in range(2):
        pages.append(
            client.get("/tasks", params={**query, "cursor": pages[-1]["next_cursor"]}).json()
        )
    whole = client.get("/tasks", params={**query, "limit": 6}).json()
    ids = [item["task_id"] for page in pages for item in page["items"]]
    return [len(ids), len(set(ids)), ids == [item["task_id"] for item in whole["items"]]]
