"""The same client on the processes of a deployment and on `taskyard dev`: the same answers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from tests.integration.system.every_route import every_route
from tests.integration.system.installation import System, dev_system, real_system
from tests.integration.system.main_job import FILES
from tests.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(480)]


def test_both_forms_answer_alike(tmp_path: Path, services: Services) -> None:
    for form in ("real", "dev"):
        (tmp_path / form).mkdir()
    with real_system(tmp_path / "real", services) as system:
        real, not_done = every_route(system.client())
        assert celery_answers(system)
        assert rows_and_files(system, tmp_path / "real" / "files") == (FILES + 5, FILES + 5)
    with dev_system(tmp_path / "dev") as system:
        embedded, not_done_embedded = every_route(system.client())

    assert (not_done, not_done_embedded) == ([], [])
    for step, answers in real.items():
        assert embedded[step] == answers, step
    status, total, results = real["a job of an archive"]
    assert (status, total, len(results)) == ("PARTIALLY_COMPLETED", FILES, FILES)
    assert real["a delayed run"] == ("SUCCEEDED", True)
    assert real["a run that fails twice"][:3] == ("SUCCEEDED", 3, False)
    assert real["a run that always fails"][:3] == ("FAILED", 3, True)
    assert real["a schedule that fires"] == [
        ("fired", "schedule"),
        [{"word": "a", "count": 2}, {"word": "b", "count": 1}],
    ]
    assert real["a plugin of our own"][2:] == ("SUCCEEDED", [{"word": "a", "count": 2}])
    assert [status for status, _, _ in real["wrong requests"]] == [
        *(422, 404, 400, 401, 404),
        *(400, 400, 400, 404, 405),
    ]


def celery_answers(system: System) -> bool:
    """Return whether Celery's own `inspect ping` is answered."""
    celery = Path(sys.executable).with_name("celery")
    command = [str(celery), "-A", "app.celery_worker.celery_app", "inspect", "ping"]
    done = subprocess.run(
        command,
        env={**os.environ, **system.environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode == 0 and "pong" in done.stdout


def rows_and_files(system: System, storage: Path) -> tuple[int, int]:
    """Return the rows of files in MariaDB, and the result documents on the storage."""
    url = make_url(system.environment["TASKYARD_DATABASES__MYSQL_LINT__URL"])
    engine = create_engine(url.set(drivername="mysql+pymysql"))
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT COUNT(*) FROM linting_tasks")).scalar_one()
    engine.dispose()
    return int(rows), len(list(storage.glob("jobs/*/results/*.json")))
