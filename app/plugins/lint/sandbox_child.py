"""The process that lints: it gives up everything it does not need, then reads SQL.

It is forked from the warm zygote and serves one file after the other over a socket.
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import socket
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any, NoReturn, Protocol

from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox_frames import Frame, receive, send

_NOBODY = 65534
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
# What pure Python raises while it computes; everything else is a reach to the outside.
_HARMLESS = frozenset({"builtins.id", "object.__getattr__", "sys._getframe", "gc.get_objects"})
# Jinja makes Python of a template. What that may reach is up to Jinja's own sandbox and the rest
# of the wall: no file, no module, no socket, no process.
_TEMPLATES = frozenset({"compile", "exec", "code.__new__", "sys.exc_info"})


class Engine(Protocol):
    """The part of `LintEngine` that the child uses."""

    def lint(self, text: str, profile: Profile, max_violations: int) -> dict[str, Any]:
        """Return the record of one text."""
        ...

    def fix(self, text: str, profile: Profile, max_violations: int) -> dict[str, Any]:
        """Return what fixing makes of one text."""
        ...


class Guard:
    """The audit hook of a lint child, which remembers what it refused."""

    def __init__(self) -> None:
        self.refused: list[str] = []
        self.templates = False

    def __call__(self, event: str, _arguments: tuple[object, ...]) -> None:
        """Refuse whatever is no computation."""
        if event in _HARMLESS or (self.templates and event in _TEMPLATES):
            return
        self.refused.append(event)
        raise RefusedError(event)


class RefusedError(BaseException):
    """Code inside the child reached for a file, a module, a socket or a process.

    Not an `Exception`, so that no rule's own error handling swallows it.
    """


def run_child(
    connection: socket.socket, engine: Engine, memory_bytes: int, niceness: int
) -> NoReturn:
    """Restrict this process, then lint what comes in until the connection ends."""
    code = 1
    try:
        give_way(niceness)
        guard = restrict(connection.fileno(), memory_bytes)
        serve(connection, engine, guard)
        code = 0
    except OSError:
        pass  # The zygote is gone; there is nobody to tell.
    finally:
        # No clean-up of the zygote's inherited state: exit handlers are its own business.
        os._exit(code)


def give_way(niceness: int) -> None:
    """Leave the processor to other processes, as `nice` does, wherever they were started from.

    Where the kernel groups processes by their session, a niceness counts only against those of
    the same one; so this process gets a session of its own, which is as nice.
    """
    os.nice(niceness)
    if niceness > 0:
        os.setsid()
        with contextlib.suppress(OSError):  # Not every kernel groups.
            Path("/proc/self/autogroup").write_text(str(niceness), encoding="ascii")


def serve(connection: socket.socket, engine: Engine, guard: Guard) -> None:
    """Answer frames until the other side ends; return early after a file that broke something."""
    while (request := receive(connection)) is not None:
        answer, healthy = answer_request(request, engine, guard)
        send(connection, answer)
        if not healthy:
            return
        gc.collect()


def answer_request(request: Frame, engine: Engine, guard: Guard) -> tuple[Frame, bool]:
    """Return the answer to a request, and whether this process may go on."""
    try:
        profile = Profile.from_wire(request.header["profile"])
        guard.templates = bool(profile.templating)
        text = request.body.decode("utf-8")
        work = engine.fix if request.header.get("fix") else engine.lint
        record = work(text, profile, request.header["max_violations"])
        body = json.dumps(record, separators=(",", ":")).encode()
    except MemoryError:
        return Frame({"outcome": "memory"}), False
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - a Rust panic is no Exception
        reason = f"refused: {guard.refused[0]}" if guard.refused else type(error).__name__
        return Frame({"outcome": "crashed", "reason": reason}), False
    if guard.refused:
        return Frame({"outcome": "crashed", "reason": f"refused: {guard.refused[0]}"}), False
    return Frame({"outcome": "linted"}, body), True


def restrict(keep: int, memory_bytes: int) -> Guard:
    """Give up descriptors, privileges and system calls; return the audit hook.

    It tells when something is tried all the same.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")  # Showing one would open the source file.
    os.environ.clear()
    _close_descriptors(keep)
    _prefer_as_victim()
    _move_to_nowhere()
    _limit(memory_bytes, keep)
    _drop_privileges()
    guard = Guard()
    sys.addaudithook(guard)
    return guard


def _close_descriptors(keep: int) -> None:
    for entry in list(Path("/proc/self/fd").iterdir()):
        descriptor = int(entry.name)
        if descriptor > 2 and descriptor != keep:
            # The descriptor of the listing itself is closed by now.
            with contextlib.suppress(OSError):
                os.close(descriptor)


def _prefer_as_victim() -> None:
    # When the container runs out of memory, the kernel ends this process, not the worker.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _move_to_nowhere() -> None:
    """Move to an empty folder that is gone at once: no relative path leads anywhere."""
    folder = Path(tempfile.mkdtemp(prefix="taskyard-lint-"))
    os.chdir(folder)
    folder.rmdir()


def _limit(memory_bytes: int, keep: int) -> None:
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: keep + 1,
    }
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))


def _drop_privileges() -> None:
    if os.geteuid() == 0:
        # A container may lack the right to change identity; the other walls still stand.
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # After the change of identity, which clears it: no lint outlives its zygote.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
