import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from bench.processes import Spent, memory_of, own_mb, spending, tree

BUSY = "import os, sys, time\nos.fork()\nend = time.process_time() + {cpu}\n"
BUSY += "while time.process_time() < end: pass\n"
# In one write: the other one may be at the same.
BUSY += "os.write(1, b'done\\n')\nsys.stdin.read()\n"


def test_a_process_and_what_it_has_forked_are_one_tree() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY.format(cpu=0.1)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    spent = Spent(process.pid)
    try:
        assert process.stdout.readline() + process.stdout.readline() == b"done\ndone\n"
        pids = tree(process.pid)
        assert pids[0] == process.pid
        assert len(pids) == 2
        # The kernel counts in ticks of ten milliseconds.
        assert spent.seconds >= 0.15
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
    assert Spent(process.pid).seconds == 0


FAMILY = """
import os, signal, sys, time

def work():
    end = time.process_time() + 0.3
    while time.process_time() < end: pass

def say(word):
    os.write(1, word.encode() + b"\\n")

def hear():
    os.read(0, 1)

say("ready")
"""
# It does not wait for its child, whose time the kernel then adds to nobody's.
DEAF = """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
if os.fork() == 0:
    work(); say("worked"); hear(); os._exit(0)
try: os.wait()
except ChildProcessError: say("ended")
hear()
"""
# Its child ends before the grandchild does, which works on under another parent.
ORPHAN = """
if (child := os.fork()) == 0:
    there, here = os.pipe()
    if os.fork() == 0:
        os.close(here); work(); say("worked"); os.read(there, 1); work(); say("ended"); os._exit(0)
    hear(); os._exit(0)
os.waitpid(child, 0)
hear()
"""
# Its child is waited for: what it had used is in its parent's time from then on.
WAITED = """
if (child := os.fork()) == 0:
    work(); say("worked"); hear(); os._exit(0)
os.waitpid(child, 0); say("ended")
hear()
"""


@contextlib.contextmanager
def family(script: str) -> Iterator[tuple[int, Callable[[], bytes], Callable[[], None]]]:
    """Start the script; give its pid, what waits for its next word, and what lets it go on."""
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY + script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def go_on() -> None:
        stdin.write(b"x")
        stdin.flush()

    try:
        # What starts the interpreter is over, and not in what is counted from here on.
        assert stdout.readline() == b"ready\n"
        yield process.pid, lambda: stdout.readline().strip(), go_on
    finally:
        stdin.close()
        process.wait()
        stdout.close()


@pytest.mark.parametrize(
    ("script", "seconds"),
    [(DEAF, 0.3), (ORPHAN, 0.6), (WAITED, 0.3)],
    ids=["not waited for", "with another parent", "waited for"],
)
def test_the_time_of_what_has_ended_counts_once(script: str, seconds: float) -> None:
    with family(script) as (pid, word, go_on):
        spent = Spent(pid)
        assert word() == b"worked"
        before = spent.seconds
        assert before >= 0.25
        go_on()
        assert word() == b"ended"
        # The kernel counts in ticks; what counts twice is 0.3 s more.
        assert max(before, seconds - 0.05) <= spent.seconds < seconds + 0.25


def test_a_child_that_was_never_seen_counts_when_it_is_waited_for() -> None:
    with family(WAITED) as (pid, word, go_on):
        spent = Spent(pid)
        assert word() == b"worked"
        go_on()
        assert word() == b"ended"
        assert 0.25 <= spent.seconds < 0.55


def test_it_is_looked_at_during_the_block() -> None:
    with family(DEAF) as (pid, word, go_on), spending(pid) as spent:
        assert word() == b"worked"
        time.sleep(0.7)
        go_on()
        assert word() == b"ended"
        assert 0.25 <= spent.seconds < 0.55
