import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

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
    # A slow machine takes more time than was asked for, and tells here how much.
    os.write(1, f"{word} {os.getpid()} {time.process_time() - began}\\n".encode())

def hear():
    os.read(0, 1)

def forked():
    global began
    began = 0

os.register_at_fork(after_in_child=forked)
# What starts the interpreter is over, and not in what is counted from here on.
began = time.process_time()
say("ready")
hear()
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


class Family:
    """The processes of a script, which say words and go on when they are told to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.pid = process.pid
        self._process = process
        self._said: dict[str, float] = {}

    @property
    def seconds(self) -> float:
        """Return the processor time that all have told of themselves, each with its last word."""
        return sum(self._said.values())

    def word(self) -> str:
        assert self._process.stdout is not None
        word, pid, seconds = self._process.stdout.readline().decode().split()
        self._said[pid] = float(seconds)
        return word

    def go_on(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"x")
        self._process.stdin.flush()

    def has_spent(self, seconds: float) -> bool:
        """Tell whether it is what they told; what counts twice or not at all is 0.3 s away."""
        return abs(seconds - self.seconds) < 0.15


@contextlib.contextmanager
def family(script: str) -> Iterator[Family]:
    process = subprocess.Popen(
        [sys.executable, "-c", FAMILY + script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        one = Family(process)
        assert one.word() == "ready"
        yield one
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    "script", [DEAF, ORPHAN, WAITED], ids=["not waited for", "with another parent", "waited for"]
)
def test_the_time_of_what_has_ended_counts_once(script: str) -> None:
    with family(script) as one:
        spent = Spent(one.pid)
        one.go_on()
        assert one.word() == "worked"
        before = spent.seconds
        assert one.has_spent(before)
        one.go_on()
        assert one.word() == "ended"
        assert one.has_spent(spent.seconds)
        assert spent.seconds >= before


def test_a_child_that_was_never_seen_counts_when_it_is_waited_for() -> None:
    with family(WAITED) as one:
        spent = Spent(one.pid)
        one.go_on()
        assert one.word() == "worked"
        one.go_on()
        assert one.word() == "ended"
        assert one.has_spent(spent.seconds)


def test_it_is_looked_at_during_the_block() -> None:
    with family(DEAF) as one, spending(one.pid) as spent:
        one.go_on()
        assert one.word() == "worked"
        time.sleep(0.7)
        one.go_on()
        assert one.word() == "ended"
        assert one.has_spent(spent.seconds)
