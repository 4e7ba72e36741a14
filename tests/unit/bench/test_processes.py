import subprocess
import sys

from bench.processes import cpu_seconds, memory_of, own_mb, tree

BUSY = "import os, sys, time\nos.fork()\nend = time.process_time() + {cpu}\n"
BUSY += "while time.process_time() < end: pass\nprint('done', flush=True)\nsys.stdin.read()\n"


def test_a_process_and_what_it_has_forked_are_one_tree() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(cpu=0.1)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() + process.stdout.readline() == b"done\ndone\n"
        pids = tree(process.pid)
        assert pids[0] == process.pid
        assert len(pids) == 2
        # The kernel counts in ticks of ten milliseconds.
        assert cpu_seconds(process.pid) >= 0.15
        assert 0 < own_mb(process.pid) <= sum(memory_of(pid).resident_mb for pid in pids)
        memory = memory_of(process.pid)
        assert memory.resident_mb >= memory.own_mb > 0
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


def test_a_process_that_is_gone_uses_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert memory_of(process.pid).resident_mb == 0
    assert cpu_seconds(process.pid) == 0
