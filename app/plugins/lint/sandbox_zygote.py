"""The zygote: a small process without threads that holds a warm SQLFluff and forks lint children.

The worker starts it with an empty environment and one inherited socket. It never reads
SQL itself: it passes frames to its child and ends the child at the file's deadline.
"""

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from app.plugins.lint.engine import LintEngine, ProfileRefusedError, engine_facts, load_library
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox_child import run_child
from app.plugins.lint.sandbox_frames import STARVED, Frame, FrameError, receive, send

_PAGE = resource.getpagesize()
_TICKS = os.sysconf("SC_CLK_TCK")
_STARVED_SHARE = 0.5


class ParentGoneError(Exception):
    """The worker has closed its end: the zygote ends too."""


class Child:
    """A forked lint process and the socket to it; `niceness` is what it adds to the zygote's."""

    def __init__(self, engine: LintEngine, memory_bytes: int, niceness: int) -> None:
        ours, theirs = socket.socketpair()
        # What exists now is shared with the child for as long as neither side touches it.
        gc.freeze()
        self.pid = os.fork()
        if self.pid == 0:
            ours.close()
            run_child(theirs, engine, memory_bytes, niceness)
        theirs.close()
        self.connection = ours
        self.niceness = niceness
        self.files = 0

    def ask(self, request: Frame, parent: socket.socket, deadline: float) -> Frame:
        """Return the child's answer; a TIMEOUT or CRASHED one when it gave none.

        ParentGoneError when the worker hangs up meanwhile.
        """
        started, used = time.monotonic(), self.cpu_seconds()
        try:
            send(self.connection, request, deadline=deadline)
            self._wait(parent, deadline)
            answer = receive(self.connection, deadline=deadline)
        except TimeoutError:
            # A machine with other work, not the file, may be what took the time.
            worked = self.cpu_seconds() - used
            starved = worked < _STARVED_SHARE * (time.monotonic() - started)
            return Frame({"outcome": "timeout", "reason": STARVED if starved else ""})
        except (OSError, FrameError):
            answer = None
        self.files += 1
        return answer or Frame({"outcome": "crashed", "reason": self.end()})

    def _wait(self, parent: socket.socket, deadline: float) -> None:
        waiting = [self.connection, parent]
        ready, _, _ = select.select(waiting, [], [], max(deadline - time.monotonic(), 0))
        if parent in ready:
            raise ParentGoneError
        if not ready:
            raise TimeoutError

    def cpu_seconds(self) -> float:
        """Return the child's processor time so far, 0 when it is gone."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii")
        except OSError:
            return 0.0
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def resident_bytes(self) -> int:
        """Return the child's resident memory, 0 when it is gone."""
        try:
            fields = Path(f"/proc/{self.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return 0
        return int(fields[1]) * _PAGE

    def end(self) -> str:
        """Kill the child unless it has ended, and return how it ended."""
        if self.pid == 0:
            return "ended"
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.connection.close()
        if os.WIFSIGNALED(status):
            return signal.Signals(os.WTERMSIG(status)).name
        return f"exit code {os.waitstatus_to_exitcode(status)}"


class Zygote:
    """Serves one worker: prepares profiles, keeps a child ready, keeps the deadlines."""

    def __init__(self, parent: socket.socket, engine: LintEngine, limits: dict[str, Any]) -> None:
        self._parent = parent
        self._engine = engine
        self._memory_bytes: int = limits["memory_bytes"]
        self._max_resident_bytes: int = limits["max_resident_bytes"]
        self._max_files: int = limits["max_files"]
        # One for each niceness: a process can become nicer, but not less nice again.
        self._children: dict[int, Child] = {}

    def serve(self) -> None:
        """Answer the worker until it hangs up."""
        try:
            while (request := receive(self._parent)) is not None:
                send(self._parent, self._lint(request))
                self._renew(request.header.get("niceness", 0))
        except (ParentGoneError, OSError):
            pass
        finally:
            self._drop_all()

    def _lint(self, request: Frame) -> Frame:
        profile = Profile.from_wire(request.header["profile"])
        if not self._engine.knows(profile):
            self._drop_all()  # A child knows only what was prepared before its fork.
            try:
                self._engine.prepare(profile)
            except ProfileRefusedError as error:
                return Frame({"outcome": "refused", "reason": str(error)[:500]})
        started = time.monotonic()
        child = self._ready_child(request.header.get("niceness", 0))
        answer = child.ask(request, self._parent, started + request.header["deadline_seconds"])
        if answer.header["outcome"] != "linted":
            self._drop(child)
        answer.header["seconds"] = round(time.monotonic() - started, 6)
        return answer

    def _ready_child(self, niceness: int) -> Child:
        if niceness not in self._children:
            self._children[niceness] = Child(self._engine, self._memory_bytes, niceness)
        return self._children[niceness]

    def _renew(self, niceness: int) -> None:
        """Fork anew, between two files, when the child is used up or gone."""
        child = self._children.get(niceness)
        if child is not None and (
            child.files >= self._max_files or child.resident_bytes() > self._max_resident_bytes
        ):
            self._drop(child)
        self._ready_child(niceness)

    def _drop(self, child: Child) -> None:
        child.end()
        self._children.pop(child.niceness, None)

    def _drop_all(self) -> None:
        for child in list(self._children.values()):
            self._drop(child)


def main(descriptor: int) -> None:
    """Serve the worker at the other end of an inherited socket; returns when it hangs up."""
    parent = socket.socket(fileno=descriptor)
    setup = receive(parent)
    if setup is None:
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # The worker decides when this process ends.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ.clear()
    engine = LintEngine(allow_noqa=setup.header["allow_noqa"])
    try:
        load_library()
        engine.prepare(Profile.from_wire(setup.header["profile"]))
    except Exception as error:  # noqa: BLE001 - the worker shows it; standard error is closed
        reason = f"{type(error).__name__}: {error}"[:500]
        send(parent, Frame({"outcome": "broken", "reason": reason}))
        return
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    send(parent, Frame({"outcome": "ready", "threads": threads, "engine": engine_facts()}))
    Zygote(parent, engine, setup.header["limits"]).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]))
