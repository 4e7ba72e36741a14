"""Processes of a comparison: started and ended by the yard, asked and waited for here."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.peers.tally import Tally
from bench.sides import Side

_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 30.0


class BenchError(Exception):
    """A side could not do what it was asked for; the text says what, with the end of its log."""


@dataclass(frozen=True)
class Process:
    """A started process and its log."""

    popen: "subprocess.Popen[bytes]"
    log: Path

    def check(self) -> None:
        """Raise BenchError when the process has ended."""
        if self.popen.poll() is not None:
            raise BenchError(f"{self.popen.args!r} has ended.\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of the log."""
        return self.log.read_text(errors="replace")[-2000:]

    def stop(self) -> None:
        """End the process and all that it started."""
        if self.popen.stdin is not None:
            self.popen.stdin.close()
        else:
            self.popen.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


@dataclass(frozen=True)
class Control:
    """An adapter that waits for calls."""

    side: Side
    process: Process

    def call(self, name: str, **arguments: Any) -> Any:
        """Return what the adapter's call returned; BenchError when it failed."""
        popen = self.process.popen
        assert popen.stdin is not None and popen.stdout is not None  # noqa: S101, PT018 - pipes
        with contextlib.suppress(BrokenPipeError):
            popen.stdin.write(json.dumps({"call": name, **arguments}).encode() + b"\n")
            popen.stdin.flush()
        line = popen.stdout.readline()
        answer = json.loads(line) if line else {"error": "it ended"}
        if "error" in answer:
            told = f"{self.side.name}: {name}: {answer['error']}"
            raise BenchError(f"{told}\n{self.process.tail()}")
        return answer["value"]


def free_port() -> int:
    """Return a port of the loopback address on which nobody listens now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def wait_for_processes(process: Process, tally: Tally, count: int) -> None:
    """Wait until so many processes of the worker stand at the gate, or have passed it."""
    deadline = time.monotonic() + _START_SECONDS
    while (there := tally.processes()) < count:
        process.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{there} of {count} processes have a task\n{process.tail()}")
        time.sleep(0.01)


def wait_for_count(process: Process, tally: Tally, count: int, seconds: float = 60.0) -> None:
    """Wait until the worker has counted so many tasks; BenchError when it does not."""
    deadline = time.monotonic() + seconds
    while (done := tally.count()) < count:
        process.check()
        if time.monotonic() > deadline:
            raise BenchError(f"{done} of {count} tasks after {seconds:g} s\n{process.tail()}")
        time.sleep(0.01)


def wait_for(url: str, process: Process) -> None:
    """Wait until the URL is answered with 200."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        process.check()
        with (
            contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError),
            urllib.request.urlopen(url, timeout=5),  # noqa: S310 - http
        ):
            return
        time.sleep(0.1)
    raise BenchError(f"{url} is not ready\n{process.tail()}")
