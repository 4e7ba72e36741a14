"""The worker's own `/metrics` counts what its children did."""

import socket
import subprocess
import sys
import urllib.request

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


def test_the_counts_of_children_are_served() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(port)],
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
    line = 'taskyard_tasks_total{queue="default",status="SUCCEEDED",task="text.count"} 3.0'
    assert line in text.splitlines()
