"""The main job over HTTP alone: what a client sees, the same on every form of the product."""

import io
import time
import zipfile
from collections.abc import Callable
from datetime import datetime
from typing import Any

import httpx2

Seen = dict[str, Any]
FILES = 100
ENDED = {"COMPLETED", "PARTIALLY_COMPLETED", "FAILED"}
WAIT_SECONDS = 120.0


def main_job(client: httpx2.Client) -> Seen:
    """Do the main job step by step; return what was seen, without ids and times."""
    steps: dict[str, Callable[[httpx2.Client], Any]] = {
        "one text": one_text,
        "a job of one text": job_of_one_text,
        "a job of an archive": job_of_an_archive,
        "a broken archive": broken_archive,
        "a plugin of our own": own_plugin,
        "a delayed run": delayed_run,
        "a run that fails twice": lambda one: attempts(one, 3),
        "a run that always fails": lambda one: attempts(one, 9),
        "a derived task": derived_task,
        "wrong requests": wrong_requests,
    }
    return {name: step(client) for name, step in steps.items()}


def one_text(client: httpx2.Client) -> Any:
    run = run_task(client, "lint.sql", {"sql": "SELECT a  from b\n", "dialect": "mysql"})
    return run["status"], [places(one) for one in run["result"]["violations"]]


def job_of_one_text(client: httpx2.Client) -> Any:
    job = follow(client, submit(client, {"sql_content": "select  1\n"}))
    item = job["sub_tasks"]["items"][0]
    document = client.get(f"/tasks/{item['task_id']}/result").json()
    run = client.get(f"/tasks/{item['task_id']}").json()
    kind = job["submission_type"]
    codes = [one["code"] for one in document["violations"]]
    return job["job_status"], kind, item["status"], codes, run["task"], run["status"]


def job_of_an_archive(client: httpx2.Client) -> Any:
    upload = {"file": ("project.zip", archive(), "application/zip")}
    accepted = client.post("/jobs/upload", files=upload)
    assert accepted.status_code == 202, accepted.text
    job = follow(client, accepted.json()["job_id"])
    items = [
        item
        for page in range(1, FILES // 50 + 1)
        for item in client.get(f"/jobs/{job['job_id']}", params={"page": page, "size": 50}).json()[
            "sub_tasks"
        ]["items"]
    ]
    results = {item["file_name"]: result_of(client, item) for item in items}
    return job["job_status"], job["sub_tasks"]["total"], results


def broken_archive(client: httpx2.Client) -> Any:
    # The end is missing, as after an upload that was cut off.
    upload = {"file": ("cut.zip", archive()[:-100], "application/zip")}
    accepted = client.post("/jobs/upload", files=upload)
    if accepted.status_code != 202:
        return accepted.status_code, accepted.json()["code"]
    job = follow(client, accepted.json()["job_id"])
    return job["job_status"], bool(job["error_message"])


def own_plugin(client: httpx2.Client) -> Any:
    listed = client.get("/tasks/registered/text.count_words").json()
    run = run_task(client, "text.count_words", {"text": "a b a", "top": 1})
    return listed["params_schema"], listed["result_schema"], run["status"], run["result"]


def delayed_run(client: httpx2.Client) -> Any:
    run = run_task(client, "text.count_words", {"text": "x"}, delay_seconds=2)
    waited = moment(run["started_at"]) - moment(run["created_at"])
    return run["status"], waited.total_seconds() >= 2


def attempts(client: httpx2.Client, succeed_at: int) -> Any:
    run = run_task(client, "text.succeed_at", {"attempt": succeed_at})
    events = client.get(f"/tasks/{run['task_id']}/events").json()["items"]
    steps = [(event["from"], event["to"], event["attempt"]) for event in events]
    return run["status"], run["attempt"], run["dead_letter_id"] is not None, steps


def derived_task(client: httpx2.Client) -> Any:
    body = {"name": "text.count_one", "base_task": "text.count_words", "params": {"top": 1}}
    made = client.post("/tasks/register", json=body)
    again = client.post("/tasks/register", json=body)
    run = run_task(client, "text.count_one", {"text": "b b a"})
    gone = client.delete("/tasks/registered/text.count_one")
    return made.status_code, again.json()["code"], run["result"], gone.status_code


def wrong_requests(client: httpx2.Client) -> Any:
    run = {"task": "text.count_words", "params": {"text": 1, "extra": True}}
    answers = [
        client.post("/tasks/run", json=run),
        client.post("/tasks/run", json={"task": "text.count_word", "params": {}}),
        client.post("/tasks/run", content=b"{", headers={"Content-Type": "application/json"}),
        client.post("/tasks/run", json=run, headers={"Authorization": "Bearer wrong"}),
        client.get("/jobs/job-0"),
        client.post("/jobs", json={}),
        client.post("/jobs", json={"sql_content": "x", "zip_file_path": "y.zip"}),
        client.post("/jobs", json={"zip_file_path": "../../etc/passwd"}),
        client.get("/nothing"),
        client.delete("/tasks/run"),
    ]
    return [(one.status_code, one.json()["code"], one.json()["detail"]) for one in answers]


def run_task(
    client: httpx2.Client, task: str, params: dict[str, Any], **options: Any
) -> dict[str, Any]:
    """Run a task and wait for its end."""
    body = {"task": task, "params": params, "options": options}
    answer = client.post("/tasks/run", json=body, headers={"Prefer": "wait=30"})
    assert answer.status_code == 200, answer.text
    run: dict[str, Any] = answer.json()
    return run


def submit(client: httpx2.Client, body: dict[str, Any]) -> str:
    answer = client.post("/jobs", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


def follow(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    """Return the job when it has ended."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}").json()
        if job["job_status"] in ENDED:
            return job
        time.sleep(0.1)
    raise TimeoutError(f"job {job_id} has not ended")


def result_of(client: httpx2.Client, item: dict[str, Any]) -> Any:
    answer = client.get(f"/tasks/{item['task_id']}/result")
    if answer.status_code != 200:
        return item["status"], answer.status_code
    return item["status"], [places(one) for one in answer.json()["violations"]]


def archive() -> bytes:
    """Return a ZIP of many small files with a few kinds of faults, one of them unparsable."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as target:
        for number in range(FILES):
            text = f"SELECT id,  name from orders_{number} WHERE total > {number}\n"
            if number == 7:
                text = "SELECT (1\n"
            target.writestr(f"reports/{number:03}_orders.sql", text)
    return buffer.getvalue()


def places(violation: dict[str, Any]) -> tuple[str, int, int]:
    return violation["code"], violation["start_line_no"], violation["start_line_pos"]


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
