"""The lint child: what it gives up, and what it answers when something breaks."""

import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import app
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox_child import Guard, RefusedError, answer_request, serve
from app.plugins.lint.sandbox_frames import Frame, receive, send

REQUEST = Frame({"profile": Profile("ansi").to_wire(), "max_violations": 5}, b"SELECT 1")


class PanicException(BaseException):
    """What a panic of the Rust parser looks like."""


class FakeEngine:
    def __init__(
        self, *, error: BaseException | None = None, refuse: list[str] | None = None
    ) -> None:
        self.error = error
        self.refuse = refuse
        self.asked: list[tuple[str, Profile, int]] = []

    def lint(self, text: str, profile: Profile, max_violations: int) -> dict[str, Any]:
        self.asked.append((text, profile, max_violations))
        if self.refuse is not None:
            self.refuse.append("open")
        if self.error is not None:
            raise self.error
        return {"violations": []}

    def fix(self, text: str, profile: Profile, max_violations: int) -> dict[str, Any]:
        return {"fixed": text, **self.lint(text, profile, max_violations)}


def test_a_fix_is_asked_for_by_name() -> None:
    request = Frame({**REQUEST.header, "fix": True}, REQUEST.body)
    answer, _ = answer_request(request, FakeEngine(), Guard())
    assert json.loads(answer.body) == {"fixed": "SELECT 1", "violations": []}


def test_a_record_is_the_body() -> None:
    engine = FakeEngine()
    answer, healthy = answer_request(REQUEST, engine, Guard())
    assert healthy
    assert answer.header == {"outcome": "linted"}
    assert json.loads(answer.body) == {"violations": []}
    assert engine.asked == [("SELECT 1", Profile("ansi"), 5)]


@pytest.mark.parametrize(
    ("error", "header"),
    [
        (MemoryError(), {"outcome": "memory"}),
        (PanicException("SELECT secret"), {"outcome": "crashed", "reason": "PanicException"}),
        (RecursionError("deep"), {"outcome": "crashed", "reason": "RecursionError"}),
    ],
)
def test_what_breaks_becomes_an_answer_without_sql(
    error: BaseException, header: dict[str, str]
) -> None:
    answer, healthy = answer_request(REQUEST, FakeEngine(error=error), Guard())
    assert (answer, healthy) == (Frame(header), False)


def test_being_stopped_is_no_answer() -> None:
    with pytest.raises(KeyboardInterrupt):
        answer_request(REQUEST, FakeEngine(error=KeyboardInterrupt()), Guard())


@pytest.mark.parametrize("error", [None, ValueError("swallowed")])
def test_a_refused_reach_outside_counts_even_when_it_was_swallowed(error: Exception | None) -> None:
    guard = Guard()
    answer, healthy = answer_request(REQUEST, FakeEngine(error=error, refuse=guard.refused), guard)
    assert not healthy
    assert answer.header == {"outcome": "crashed", "reason": "refused: open"}


def test_only_a_template_may_be_compiled() -> None:
    guard = Guard()
    for event in ("compile", "exec"):
        with pytest.raises(RefusedError):
            guard(event, ())
    templated = Profile("ansi", templating='{"name": "dbt"}')
    request = Frame({**REQUEST.header, "profile": templated.to_wire()}, REQUEST.body)
    fresh = Guard()
    assert answer_request(request, FakeEngine(), fresh)[1]
    for event in ("compile", "exec"):
        fresh(event, ())
    with pytest.raises(RefusedError):
        fresh("open", ())
    # The next text is plain again.
    answer_request(REQUEST, FakeEngine(), fresh)
    with pytest.raises(RefusedError):
        fresh("compile", ())


def test_it_serves_until_the_other_side_ends() -> None:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs, FakeEngine(), Guard()))
    thread.start()
    for _ in range(3):
        send(ours, REQUEST)
        answer = receive(ours)
        assert answer is not None
        assert answer.header["outcome"] == "linted"
    ours.close()
    thread.join(5)
    assert not thread.is_alive()
    theirs.close()


def test_it_serves_nothing_after_something_broke() -> None:
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=serve, args=(theirs, FakeEngine(error=MemoryError()), Guard()))
    thread.start()
    send(ours, REQUEST)
    answer = receive(ours)
    thread.join(5)
    assert answer == Frame({"outcome": "memory"})
    assert not thread.is_alive()
    ours.close()
    theirs.close()


PROBE = """
import json, os, resource, socket, sys, types
app = types.ModuleType("app"); app.__path__ = [sys.argv[2]]; sys.modules["app"] = app
from app.plugins.lint.sandbox_child import RefusedError, restrict
keep = int(sys.argv[1])
told = socket.socket(fileno=keep)
secret = os.open("/etc/hostname", os.O_RDONLY)
os.environ["SECRET"] = "canary"
guard = restrict(keep, 2**31)
found = {"uid": os.geteuid(), "environment": dict(os.environ), "refused": []}
def attempt(name, action):
    try:
        action()
    except RefusedError:
        found["refused"].append(name)
    except OSError as error:
        found["refused"].append(name + ":" + type(error).__name__)
attempt("open", lambda: open("/etc/passwd"))
attempt("listdir", lambda: os.listdir("/"))
attempt("import", lambda: __import__("sqlite3"))
attempt("system", lambda: os.system("true"))
attempt("fork", os.fork)
attempt("exec", lambda: os.execv("/bin/true", ["true"]))
attempt("socket", lambda: socket.socket())
attempt("compile", lambda: eval("1 + 1"))
attempt("descriptor", lambda: os.read(secret, 1))
attempt("cwd", os.getcwd)
limits = ("AS", "FSIZE", "CORE", "NPROC", "NOFILE")
found["limits"] = [resource.getrlimit(getattr(resource, "RLIMIT_" + name))[1] for name in limits]
found["events"] = sorted(set(guard.refused))
told.sendall(json.dumps(found).encode())
os._exit(0)
"""


def test_it_gives_up_files_modules_processes_sockets_and_its_identity() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [
            sys.executable,
            "-c",
            PROBE,
            str(theirs.fileno()),
            str(Path(app.__file__).parent),
        ]
        # Measuring coverage in there would need the files that it gives up.
        environment = {name: os.environ[name] for name in os.environ if "COVERAGE" not in name}
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True, env=environment)
        found = json.loads(ours.recv(65536))
        keep = theirs.fileno()
    assert found["refused"] == [
        *("open", "listdir", "import", "system", "fork", "exec", "socket", "compile"),
        *("descriptor:OSError", "cwd:FileNotFoundError"),
    ]
    assert {"open", "os.listdir", "import", "os.system", "os.fork", "os.exec"} <= set(
        found["events"]
    )
    assert found["environment"] == {}
    assert found["limits"] == [2**31, 0, 0, 0, keep + 1]
    if os.geteuid() == 0:
        assert found["uid"] == 65534
