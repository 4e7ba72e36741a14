"""The stream of a job: figures as they change, and the end."""

import json
import threading
import time
from typing import Any

from httpx2 import Response

from tests.contract.plugins.lint.yard import Yard


def events(answer: Response) -> list[tuple[str, dict[str, Any]]]:
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = []
    for block in answer.text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "event" in fields:
            told.append((fields["event"], json.loads(fields["data"])))
    return told


def test_a_job_is_followed_from_its_submission_to_its_end(yard: Yard) -> None:
    members = {"a.sql": b"SELECT a  FROM b\n", "b.sql": b"SELECT (\n"}
    job_id = yard.submit_zip(members)
    answers: list[Response] = []
    path = f"/api/v1/jobs/{job_id}/stream"
    follower = threading.Thread(target=lambda: answers.append(yard.call("GET", path)))
    follower.start()
    desk = yard.client.app.state.streams  # type: ignore[attr-defined]  # the application's own
    while not desk.taken:
        time.sleep(0.01)
    yard.work()
    follower.join(30)

    told = events(answers[0])
    assert [kind for kind, _ in told[-1:]] == ["end"]
    assert {kind for kind, _ in told[:-1]} <= {"progress"}
    ended = [progress["figures"]["ended"] for _, progress in told]
    assert ended == sorted(ended)
    last = told[-1][1]
    assert (last["job_status"], last["passed"]) == ("PARTIALLY_COMPLETED", False)
    assert last["figures"]["findings"] == {"error": 1, "warning": 1, "note": 0}
    assert last["figures"] == yard.job(job_id)["figures"]
    assert desk.taken == 0


def test_an_ended_job_tells_its_end_once(yard: Yard) -> None:
    job_id = yard.submit(sql_content="SELECT 1\n")
    yard.work()
    path = f"/api/v1/jobs/{job_id}/stream"
    ((kind, progress),) = events(yard.call("GET", path, "operator"))
    assert (kind, progress["job_status"]) == ("end", "COMPLETED")
    again = yard.call("GET", path, headers={"Last-Event-ID": "end"})
    assert again.status_code == 204


def test_nobody_follows_the_job_of_somebody_else(yard: Yard) -> None:
    job_id = yard.submit("admin", sql_content="SELECT 1\n")
    for unseen in (job_id, "job-unknown"):
        answer = yard.call("GET", f"/api/v1/jobs/{unseen}/stream", "operator")
        assert (answer.status_code, answer.json()["code"]) == (404, "JOB_NOT_FOUND")
