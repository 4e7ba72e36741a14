import multiprocessing
import os
import threading
import time
from pathlib import Path

import pytest

from bench.peers import tally


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(tally.FOLDER, str(tmp_path))
    monkeypatch.setattr(tally, "_own", threading.local())
    return tmp_path


def tick_often(count: int) -> None:
    for _ in range(count):
        tally.tick()


def test_processes_and_threads_count_together(folder: Path) -> None:
    counted = tally.Tally(folder)
    counted.open_gate()
    threads = [threading.Thread(target=tick_often, args=(50,)) for _ in range(3)]
    child = multiprocessing.get_context("spawn").Process(target=tick_often, args=(7,))
    child.start()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    child.join()
    assert (counted.count(), counted.processes()) == (157, 2)


def test_a_task_waits_at_the_gate(folder: Path) -> None:
    counted = tally.Tally(folder)
    thread = threading.Thread(target=tally.tick)
    thread.start()
    while not counted.processes():
        time.sleep(0.001)
    assert counted.count() == 0
    assert thread.is_alive()
    counted.open_gate()
    thread.join()
    assert counted.count() == 1


def test_a_forked_child_counts_for_itself(folder: Path) -> None:
    counted = tally.Tally(folder)
    counted.open_gate()
    tally.tick()
    pid = os.fork()
    if not pid:
        tally.tick()
        os._exit(0)
    os.waitpid(pid, 0)
    assert (counted.count(), counted.processes()) == (2, 2)


def test_stamps_are_milliseconds_since_the_sending(folder: Path) -> None:
    counted = tally.Tally(folder)
    tally.stamp(time.monotonic_ns() - 5_000_000)
    tally.stamp(time.monotonic_ns())
    late, prompt = counted.delays_ms()
    assert late >= 5.0
    assert prompt >= 0.0
    assert counted.count() == 2
