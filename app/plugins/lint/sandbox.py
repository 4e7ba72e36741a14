"""The worker's side of the sandbox: `Sandboxes.lint` gives a text to a lint child.

SQL never reaches a parser in the worker itself. Each sandbox is a zygote process (see
`sandbox_zygote`), started on first use, one for each lint that runs at the same time.
"""

import atexit
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox_frames import Frame, FrameError, receive, send

# The zygote loads the lint engine and not the product: importing `app` itself would bring in
# databases and clients, which it must not have. So `app` is a bare package there.
_START = (
    "import sys, types; app = types.ModuleType('app'); app.__path__ = [sys.argv[2]]; "
    "sys.modules['app'] = app; "
    "from app.plugins.lint.sandbox_zygote import main; main(int(sys.argv[1]))"
)
_APP_FOLDER = str(Path(__file__).resolve().parents[2])
# The zygote keeps the deadline; these seconds more are for a zygote that cannot.
_GRACE_SECONDS = 15.0
_CLOSE_SECONDS = 5.0
_ENDED = "its process ended at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """What a sandbox may use. `memory_bytes` is address space, not resident memory."""

    dialect: str = "ansi"
    allow_noqa: bool = True
    memory_bytes: int = 1536 * 1024 * 1024
    max_resident_bytes: int = 256 * 1024 * 1024
    max_files: int = 500
    max_violations: int = 50_000
    start_seconds: float = 60.0
    processes: int = 2

    def to_wire(self) -> dict[str, Any]:
        """Return what the zygote has to know."""
        return {
            "allow_noqa": self.allow_noqa,
            "profile": Profile(self.dialect).to_wire(),
            "limits": {
                "memory_bytes": self.memory_bytes,
                "max_resident_bytes": self.max_resident_bytes,
                "max_files": self.max_files,
            },
        }


@dataclass(frozen=True, slots=True)
class Answer:
    """How one lint ended.

    `outcome` is ``linted`` (then `record` is the engine's, of a lint or a fix), ``timeout``,
    ``memory``, ``crashed`` (`reason` is a signal or an error's type, never SQL) or ``refused``
    (SQLFluff does not accept the profile). `seconds` is the time in the child.
    """

    outcome: str
    record: dict[str, Any] | None = None
    reason: str = ""
    seconds: float = 0.0
    engine: dict[str, Any] = field(default_factory=dict)


class SandboxBrokenError(RuntimeError):
    """No sandbox can be started on this machine; the message says why."""


class Sandbox:
    """One zygote process and the connection to it. Serves one thread at a time."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None
        self._engine: dict[str, Any] = {}

    @property
    def pid(self) -> int | None:
        """Return the zygote's process id, None while there is none."""
        return self._process.pid if self._process else None

    def lint(
        self,
        text: str,
        profile: Profile,
        deadline_seconds: float,
        niceness: int = 0,
        *,
        fix: bool = False,
    ) -> Answer:
        """Return how the lint, or fix, of the text ended; SandboxBrokenError if no process starts.

        A zygote that died since the last call is replaced. Any other exception (a task's
        time limit) ends the zygote, since its answer would be taken for the next one's.
        """
        request = Frame(
            {
                "profile": profile.to_wire(),
                "deadline_seconds": deadline_seconds,
                "niceness": niceness,
                "fix": fix,
                "max_violations": self._limits.max_violations,
            },
            text.encode("utf-8"),
        )
        # The zygote does not read SQL, so when it ends without an answer the text is hardly the
        # reason; the second time it is treated as if it were.
        answer = self._ask(request, deadline_seconds) or self._ask(request, deadline_seconds)
        return self._read(answer) if answer else Answer("crashed", reason="the sandbox ended")

    def _ask(self, request: Frame, deadline_seconds: float) -> Frame | None:
        connection = self._started()
        limit = time.monotonic() + deadline_seconds + _GRACE_SECONDS
        try:
            send(connection, request, deadline=limit)
            answer = receive(connection, deadline=limit)
        except TimeoutError:
            self.kill()
            return Frame({"outcome": "timeout", "seconds": deadline_seconds})
        except (OSError, FrameError):
            answer = None
        except BaseException:
            self.kill()
            raise
        if answer is None:
            self.kill()
        return answer

    def _read(self, answer: Frame) -> Answer:
        record = None
        if answer.header.get("outcome") == "linted":
            record = json.loads(answer.body)
        return Answer(
            outcome=str(answer.header.get("outcome", "crashed")),
            record=record,
            reason=str(answer.header.get("reason", "")),
            seconds=float(answer.header.get("seconds", 0.0)),
            engine=self._engine,
        )

    def _started(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self.kill()
        if self._connection is None:
            self._start()
        if self._connection is None:  # pragma: no cover - _start raises or connects
            raise SandboxBrokenError
        return self._connection

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, "-I", "-c", _START, str(theirs.fileno()), _APP_FOLDER],
                stdin=subprocess.DEVNULL,
                # A panic of the Rust parser prints parts of the SQL.
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={"LANG": "C.UTF-8"},
                cwd="/",
                pass_fds=[theirs.fileno()],
                # Ctrl-C at the terminal is for the worker, which then closes its sandboxes.
                start_new_session=True,
            )
        self._connection = ours
        try:
            send(ours, Frame(self._limits.to_wire()))
            ready = receive(ours, deadline=time.monotonic() + self._limits.start_seconds)
        except (OSError, FrameError) as error:
            self.kill()
            reason = "no answer in time" if isinstance(error, TimeoutError) else _ENDED
            message = f"The SQL lint sandbox did not start: {reason}"
            raise SandboxBrokenError(message) from error
        if ready is None or ready.header.get("outcome") != "ready":
            self.kill()
            reason = ready.header.get("reason", "") if ready else _ENDED
            message = f"The SQL lint sandbox did not start: {reason}"
            raise SandboxBrokenError(message)
        self._engine = ready.header["engine"]

    def close(self) -> None:
        """Let the zygote end by itself, kill it when it does not."""
        self._hang_up()
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_CLOSE_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the zygote at once; its lint child dies with it."""
        self._hang_up()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Give up, in a forked copy of the worker, the sandbox that belongs to the original."""
        self._hang_up()
        if self._process is not None:
            self._process.returncode = 0  # The original waits for it; this copy must not.
            self._process = None

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Sandboxes:
    """The sandboxes of one process: as many as lint at the same time, `processes` at most."""

    def __init__(self, limits: SandboxLimits) -> None:
        self._limits = limits
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._slots = threading.BoundedSemaphore(self._limits.processes)
        self._idle: list[Sandbox] = []
        self._all: list[Sandbox] = []

    def lint(
        self,
        text: str,
        profile: Profile,
        deadline_seconds: float,
        niceness: int = 0,
        *,
        fix: bool = False,
    ) -> Answer:
        """Lint, or fix, in a free sandbox; waits for one while all are busy. Safe in any thread.

        The work gives way to other processes by `niceness`, as `nice` does.
        """
        if self._pid != os.getpid():
            self.after_fork()
        with self._slots:
            try:
                sandbox = self._idle.pop()
            except IndexError:
                sandbox = Sandbox(self._limits)
                self._all.append(sandbox)
            try:
                return sandbox.lint(text, profile, deadline_seconds, niceness, fix=fix)
            finally:
                self._idle.append(sandbox)

    def pids(self) -> list[int]:
        """Return the process ids of the running zygotes."""
        return [sandbox.pid for sandbox in self._all if sandbox.pid is not None]

    def after_fork(self) -> None:
        """Start afresh in a forked child: processes and locks belong to the parent."""
        for sandbox in self._all:
            sandbox.forget()
        self._renew()

    def close(self) -> None:
        """End all sandboxes; the next lint starts new ones."""
        if self._pid != os.getpid():
            self.after_fork()
        for sandbox in self._all:
            sandbox.close()
        self._renew()


_by_limits: dict[SandboxLimits, Sandboxes] = {}
_lock = threading.Lock()


def sandboxes(limits: SandboxLimits) -> Sandboxes:
    """Return this process's sandboxes with these limits; they are closed when it exits."""
    with _lock:
        if limits not in _by_limits:
            _by_limits[limits] = Sandboxes(limits)
        return _by_limits[limits]


def close_sandboxes() -> None:
    """End every sandbox of this process."""
    for each in list(_by_limits.values()):
        each.close()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a lock held by another thread at the fork would never open
    _lock = threading.Lock()
    for each in _by_limits.values():
        each.after_fork()


atexit.register(close_sandboxes)
os.register_at_fork(after_in_child=_after_fork)
