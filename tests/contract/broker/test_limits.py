"""A limit of one on the embedded worker, whose threads could break it, across a stop."""

from pathlib import Path

from app.celery_worker import inproc
from app.celery_worker.embedded import EmbeddedWorker
from app.config import load_settings
from tests.contract.broker.yards import Yard, await_it, environment
from tests.harness import migrate

TRIGGERS = 12


def test_one_at_a_time_across_a_stop_of_the_worker(tmp_path: Path) -> None:
    environ = environment("taskyard-test-limits", concurrency=4)
    settings = load_settings(data_dir=tmp_path, environ=environ)
    migrate(settings)
    inproc.register()
    yard = Yard(settings)
    first, second = EmbeddedWorker(settings), EmbeddedWorker(settings)
    note = {"folder": str(tmp_path)}
    first.start()
    try:
        runs = [yard.submit("probe.hold_alone", note) for _ in range(TRIGGERS)]
        bystander = yard.submit("probe.echo_text", {"text": "not held up"})
        yard.await_status(bystander, "SUCCEEDED")
        await_it(lambda: True if _lines(tmp_path, "starts") >= 3 else None)
    finally:
        first.stop()
    second.start()
    try:
        for run_id in runs:
            yard.await_status(run_id, "SUCCEEDED", "FAILED")
    finally:
        second.stop()
        ends = [yard.row(run_id) for run_id in runs]
        yard.close()
    assert [row.status for row in ends] == ["SUCCEEDED"] * TRIGGERS
    assert _lines(tmp_path, "starts") >= TRIGGERS
    assert _lines(tmp_path, "overlaps") == 0


def _lines(folder: Path, name: str) -> int:
    file = folder / name
    return len(file.read_text().splitlines()) if file.exists() else 0
