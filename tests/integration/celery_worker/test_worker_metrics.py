"""The own `/metrics` of a worker counts what its children did, that of a beat what it did."""

import socket
import subprocess
import sys
import urllib.request

import pytest

CHILD = """
import sys
from app.celery_worker import metrics
metrics.prepare(int(sys.argv[1]))
import os
from app.common.metrics import TASKS
if os.fork() == 0:
    TASKS.labels("text.count", "default", "SUCCEEDED").inc(3)
    os._exit(0)
os.wait()
metrics.serve(int(sys.argv[1]), "127.0.0.1")
print("ready", flush=True)
sys.stdin.read()
"""


BEAT = """
import sys
from app.celery_worker import metrics
from app.common.metrics import SCHEDULE_FIRINGS
metrics.serve_own(int(sys.argv[1]), "127.0.0.1")
SCHEDULE_FIRINGS.labels("fired").inc(3)
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("program", "line"),
    [
        (CHILD, 'taskyard_tasks_total{queue="default",status="SUCCEEDED",task="text.count"} 3.0'),
        (BEAT, 'taskyard_schedule_firings_total{outcome="fired"} 3.0'),
    ],
    ids=["worker", "beat"],
)
def test_what_was_counted_is_served(program: str, line: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(port)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            text = answer.read().decode()
    finally:
        process.communicate("")
    assert line in text.splitlines()
