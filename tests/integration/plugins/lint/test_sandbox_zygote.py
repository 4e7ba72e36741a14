"""The zygote spoken to directly, in a process that the tests can measure."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import SandboxLimits
from app.plugins.lint.sandbox_frames import Frame, receive, send

START = "import sys; from app.plugins.lint.sandbox_zygote import main; main(int(sys.argv[1]))"


@dataclass
class Zygote:
    connection: socket.socket
    process: subprocess.Popen[bytes]

    def ask(self, frame: Frame) -> Frame:
        send(self.connection, frame)
        answer = receive(self.connection, deadline=time.monotonic() + 60)
        assert answer is not None
        return answer

    def lint(self, text: str, *, dialect: str = "ansi", deadline: float = 20) -> dict[str, Any]:
        header = {
            "profile": Profile(dialect).to_wire(),
            "deadline_seconds": deadline,
            "max_violations": 100,
        }
        return self.ask(Frame(header, text.encode())).header


@pytest.fixture
def zygote() -> Iterator[Zygote]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        descriptor = theirs.fileno()
        command = [sys.executable, "-c", START, str(descriptor)]
        with subprocess.Popen(command, pass_fds=[descriptor]) as process:
            theirs.close()
            yield Zygote(ours, process)
            ours.close()
            assert process.wait(30) == 0


def test_it_is_ready_without_a_second_thread(zygote: Zygote) -> None:
    ready = zygote.ask(Frame(SandboxLimits().to_wire()))
    assert ready.header["outcome"] == "ready"
    assert ready.header["threads"] == 1
    assert zygote.lint("SELECT 1\n")["outcome"] == "linted"
    assert zygote.lint("SELECT 1\n", dialect="sqlite")["outcome"] == "linted"
    assert zygote.lint("SELECT 1\n", dialect="nope")["outcome"] == "refused"
    assert zygote.lint("SELECT 1\n")["outcome"] == "linted"


def test_its_environment_and_folder_are_empty(zygote: Zygote) -> None:
    zygote.ask(Frame(SandboxLimits().to_wire()))
    zygote.lint("SELECT 1\n")
    folder = Path(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children")
    (child,) = folder.read_text().split()
    assert "(deleted)" in str(Path(f"/proc/{child}/cwd").readlink())
    descriptors = sorted(int(path.name) for path in Path(f"/proc/{child}/fd").iterdir())
    assert descriptors[:3] == [0, 1, 2]
    assert len(descriptors) == 4


def test_a_file_over_its_deadline_is_ended(zygote: Zygote) -> None:
    zygote.ask(Frame(SandboxLimits(max_files=1).to_wire()))
    joins = "".join(f"JOIN t{n} ON t.x = t{n}.x\n" for n in range(1500))
    assert zygote.lint(f"SELECT * FROM t\n{joins}", deadline=0.3)["outcome"] == "timeout"
    assert zygote.lint("SELECT 1\n")["outcome"] == "linted"
    assert zygote.lint("SELECT 1\n")["outcome"] == "linted"


def test_a_default_profile_that_is_refused_ends_it(zygote: Zygote) -> None:
    answer = zygote.ask(Frame(SandboxLimits(dialect="nope").to_wire()))
    assert answer.header["outcome"] == "broken"
    assert answer.header["reason"]


def test_it_ends_when_nobody_speaks_to_it(zygote: Zygote) -> None:
    zygote.connection.close()
    assert zygote.process.wait(30) == 0


def test_it_ends_with_its_child_when_the_worker_hangs_up_in_the_middle(zygote: Zygote) -> None:
    zygote.ask(Frame(SandboxLimits().to_wire()))
    joins = "".join(f"JOIN t{n} ON t.x = t{n}.x\n" for n in range(1500))
    header = {
        "profile": Profile("ansi").to_wire(),
        "deadline_seconds": 60,
        "max_violations": 100,
    }
    send(zygote.connection, Frame(header, f"SELECT * FROM t\n{joins}".encode()))
    zygote.connection.close()
    assert zygote.process.wait(10) == 0
