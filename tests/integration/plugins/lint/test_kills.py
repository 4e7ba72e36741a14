"""Every process of the lint dies in the middle of an archive: it is linted all the same, once."""

import io
import os
import signal
import subprocess
import time
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.faults.processes import descendants, parents
from tests.integration.system.installation import TASKYARD, System, real_system
from tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(420)]

FILES = 200
WAIT_SECONDS = 240.0
# Short times, so that what the dead worker had is taken back soon.
QUICK = {
    "TASKYARD_CELERY__LEASE_SECONDS": "4",
    "TASKYARD_CELERY__HEARTBEAT_SECONDS": "1",
    "TASKYARD_CELERY__SWEEP_INTERVAL_SECONDS": "0.5",
}


def test_an_archive_survives_the_death_of_every_process(tmp_path: Path, services: Services) -> None:
    with real_system(tmp_path, services, QUICK) as system, closing(system.client()) as client:
        job_id = submit(client, tmp_path)
        results = tmp_path / "files" / "jobs" / job_id / "results"
        for share, role in ((0.1, "lint child"), (0.25, "worker child"), (0.4, "zygote")):
            wait_for(results, round(FILES * share))
            os.kill(pids_of(role)[0], signal.SIGKILL)
        wait_for(results, FILES // 2)
        (main,) = pids_of("worker")
        os.kill(main, signal.SIGKILL)
        with another_worker(system, tmp_path) as worker:
            try:
                check(client, job_id, results)
            finally:
                worker.terminate()
                worker.wait(30)


def submit(client: httpx2.Client, folder: Path) -> str:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in range(FILES):
            archive.writestr(f"{number:03d}.sql", f"select a{number},b from c;\n" * 5)
    place = folder / "files" / "inbox" / "project.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(buffer.getvalue())
    accepted = client.post("/jobs", json={"zip_file_path": "inbox/project.zip"})
    assert accepted.status_code == 202, accepted.text
    return str(accepted.json()["job_id"])


def wait_for(results: Path, files: int) -> None:
    """Wait until so many files have their documents."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not results.is_dir() or len(list(results.iterdir())) < files:
        assert time.monotonic() < deadline, "the archive does not get on"
        time.sleep(0.02)


def pids_of(role: str) -> list[int]:
    """Return the processes of one role: worker, worker child, zygote, lint child."""
    parent_of = parents()
    roles: dict[int, str] = {}
    for pid in descendants(os.getpid()):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        above = roles.get(parent_of.get(pid, 0))
        if "sandbox_zygote" in command:
            roles[pid] = "lint child" if above == "zygote" else "zygote"
        elif f"{TASKYARD} worker" in command:
            roles[pid] = "worker child" if above == "worker" else "worker"
    return [pid for pid, known in roles.items() if known == role]


def another_worker(system: System, folder: Path) -> subprocess.Popen[bytes]:
    with (folder / "second-worker.log").open("wb") as log:
        return subprocess.Popen(
            [TASKYARD, "worker", "--concurrency", "2"],
            env=dict(system.environment),
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )


def check(client: httpx2.Client, job_id: str, results: Path) -> None:
    job = finished(client, job_id)
    items = job["sub_tasks"]["items"]
    assert (job["job_status"], job["sub_tasks"]["total"]) == ("COMPLETED", FILES)
    assert [item["file_name"] for item in items] == [f"{n:03d}.sql" for n in range(FILES)]
    assert sorted(path.stem for path in results.iterdir()) == sorted(
        item["task_id"] for item in items
    )
    for item in items:
        run = client.get(f"/tasks/{item['task_id']}").json()
        assert run["status"] == "SUCCEEDED"
        events = client.get(f"/tasks/{item['task_id']}/events").json()["items"]
        assert [event["to"] for event in events].count("SUCCEEDED") == 1
        document = client.get(f"/tasks/{item['task_id']}/result").json()
        assert document["file_name"] == item["file_name"]
        assert len(document["violations"]) == item["violation_count"] > 0


def finished(client: httpx2.Client, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}", params={"size": FILES}).json()
        if job["job_status"] not in {"ACCEPTED", "PROCESSING"}:
            # The file's row is written before its run's: give the last ones their moment.
            open_runs = {"label.job_id": job_id, "status": ["PENDING", "RUNNING", "RETRYING"]}
            if not client.get("/tasks", params=open_runs).json()["items"]:
                return job
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
