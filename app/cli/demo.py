"""`taskyard demo`: the main job on sample input, end to end through the HTTP API."""

import io
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import typer

_SAMPLES = "app.plugins.lint"
_DIALECT = "postgres"
_ENDED = {"COMPLETED", "PARTIALLY_COMPLETED", "FAILED"}
_LIMIT_SECONDS = 120
_TEXT = "SELECT  id, name from customers WHERE active = TRUE"


@dataclass(frozen=True)
class _File:
    """One file of the report."""

    name: str
    status: str
    violations: int
    rules: str


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(demo)


def demo(
    data_dir: Annotated[
        Path | None, typer.Option(help="Keep everything in this folder instead of a temporary one.")
    ] = None,
) -> None:
    """Lint one SQL text and a ZIP of sample files through the API, on embedded parts.

    Example: taskyard demo
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="taskyard-demo-") as temporary:
        report = _run(data_dir or Path(temporary))
    _print_table(report)
    violations = sum(file.violations for file in report)
    failed = sum(file.status != "SUCCESS" for file in report)
    seconds = time.monotonic() - started
    print(f"demo: {len(report)} files, {violations} violations, {failed} failed, {seconds:.1f} s")


def _run(folder: Path) -> list[_File]:
    with _serving(folder) as client:
        _say("One SQL text: POST /api/v1/tasks/run, task lint.sql")
        body = {"task": "lint.sql", "params": {"sql": _TEXT, "dialect": _DIALECT}}
        run = _answer(client.post("/tasks/run", json=body, headers={"Prefer": "wait=30"}))
        for violation in run["result"]["violations"]:
            place = f"{violation['start_line_no']}:{violation['start_line_pos']}"
            _say(f"  {place:>5}  {violation['code']}  {violation['description']}")
        _say("A ZIP of sample files: POST /api/v1/jobs/upload")
        upload = {"file": ("shop.zip", _samples(), "application/zip")}
        job_id = _answer(client.post("/jobs/upload", files=upload, data={"dialect": _DIALECT}))[
            "job_id"
        ]
        job = _follow(client, job_id)
        return [_file(client, item) for item in job["sub_tasks"]["items"]]


@contextmanager
def _serving(folder: Path) -> Iterator[Any]:
    """Start the embedded form; yield an HTTP client that is signed in as the first admin."""
    import httpx2

    from app.cli.own_service import own_service

    _say(f"Starting API, worker and databases in one process, data in {folder}")
    with own_service(folder) as (url, token):
        headers = {"Authorization": f"Bearer {token}"}
        with httpx2.Client(
            base_url=f"{url}/api/v1", headers=headers, timeout=60, trust_env=False
        ) as client:
            yield client


def _samples() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for sample in sorted(
            files(_SAMPLES).joinpath("samples").iterdir(), key=lambda one: one.name
        ):
            if sample.name.endswith(".sql"):
                archive.writestr(sample.name, sample.read_bytes())
    return buffer.getvalue()


def _follow(client: Any, job_id: str) -> Mapping[str, Any]:
    """Show the progress until the job has ended; return the job with all its files."""
    deadline = time.monotonic() + _LIMIT_SECONDS
    shown = -1
    while True:
        job = _answer(client.get(f"/jobs/{job_id}", params={"page": 1, "size": 100}))
        items = job["sub_tasks"]["items"]
        done = sum(item["status"] in {"SUCCESS", "FAILURE"} for item in items)
        if done != shown:
            shown = done
            _say(f"  {job['job_status']:<20} {done} of {job['sub_tasks']['total']} files")
        if job["job_status"] in _ENDED:
            return dict(job)
        if time.monotonic() > deadline:
            raise TimeoutError(f"The job did not end within {_LIMIT_SECONDS} seconds.")
        time.sleep(0.05)


def _file(client: Any, item: Mapping[str, Any]) -> _File:
    if item["status"] != "SUCCESS":
        return _File(item["file_name"], item["status"], 0, item.get("error_message") or "")
    document = _answer(client.get(f"/tasks/{item['task_id']}/result"))
    counted = Counter(violation["code"] for violation in document["violations"])
    rules = ", ".join(f"{code} {count}" for code, count in sorted(counted.items()))
    return _File(item["file_name"], item["status"], counted.total(), rules)


def _answer(response: Any) -> dict[str, Any]:
    """Return the body of an answer; RuntimeError with what the API said when it is not a
    success.
    """
    if response.is_error:
        raise RuntimeError(
            f"{response.request.url} answered {response.status_code}: {response.text}"
        )
    body: dict[str, Any] = response.json()
    return body


def _print_table(report: list[_File]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("file", "status", "violations", "rules", box=None, pad_edge=False)
    table.columns[2].justify = "right"
    for file in sorted(report, key=lambda one: one.name):
        table.add_row(file.name, file.status, str(file.violations), file.rules)
    Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else 110).print(table)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
