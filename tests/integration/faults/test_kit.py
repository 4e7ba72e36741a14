"""The kit itself: its proxy does what it says, and a crash of a test leaves nothing behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.integration.faults import processes
from tests.integration.faults.nodes import Kit
from tests.integration.faults.proxy import Fault, Proxy
from tests.integration.faults.stack import ROOT


@contextlib.contextmanager
def echo_server() -> Iterator[int]:
    """Yield the port of a server that says everything back."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection = listener.accept()[0]
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with echo_server() as port, Proxy(port, seed=1) as opened:
        yield opened


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def say(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    heard = b""
    while len(heard) < len(text) and (more := connection.recv(65536)):
        heard += more
    return heard


def test_without_a_fault_everything_comes_through(proxy: Proxy) -> None:
    with dial(proxy) as connection:
        assert say(connection, b"x" * 100_000) == b"x" * 100_000
        assert proxy.connections == 1


def test_latency_and_bandwidth_hold_bytes_back(proxy: Proxy) -> None:
    with dial(proxy) as connection:
        proxy.fault = Fault(latency_seconds=0.1, jitter_seconds=0.05)
        before = time.monotonic()
        assert say(connection, b"late") == b"late"
        assert time.monotonic() - before >= 0.1  # Twice at least 0.05.
        proxy.fault = Fault(bytes_per_second=10_000)
        before = time.monotonic()
        assert say(connection, b"n" * 1000) == b"n" * 1000
        assert time.monotonic() - before >= 0.2


def test_a_black_hole_swallows_until_it_is_healed(proxy: Proxy) -> None:
    with dial(proxy) as connection:
        proxy.fault = Fault(black_hole=True)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            say(connection, b"anybody?")
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    with dial(proxy) as connection:
        assert say(connection, b"again") == b"again"


def test_a_reset_breaks_open_connections(proxy: Proxy) -> None:
    with dial(proxy) as connection:
        assert say(connection, b"x") == b"x"
        proxy.reset()
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_a_half_open_connection_tells_its_client_nothing(proxy: Proxy) -> None:
    with dial(proxy) as connection:
        assert say(connection, b"x") == b"x"
        proxy.fault = Fault(black_hole=True)
        proxy.half_open()
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_a_connection_is_cut_after_so_many_bytes(proxy: Proxy) -> None:
    proxy.fault = Fault(cut_after_bytes=1000)
    with dial(proxy) as connection:
        assert say(connection, b"x" * 500) == b"x" * 500
        with pytest.raises(ConnectionResetError):
            say(connection, b"x" * 501)


def test_connections_are_refused_and_taken_again(proxy: Proxy) -> None:
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        dial(proxy)
    proxy.accept()
    with dial(proxy) as connection:
        assert say(connection, b"x") == b"x"


@pytest.mark.parametrize("kept", [False, True])
def test_a_kit_ends_its_processes_and_removes_its_folder_unless_it_is_kept(kept: bool) -> None:
    kit = Kit()
    sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(sleeper, env={**os.environ, **kit.environment})
    if kept:
        assert kit.keep_folder() == kit.folder
    kit.close()
    assert child.wait() == -signal.SIGKILL
    assert kit.folder.exists() == kept
    shutil.rmtree(kit.folder, ignore_errors=True)


CRASHING = """
import os, signal, subprocess, sys
from tests.integration.faults.nodes import Kit
kit = Kit()
sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleeper, env={**os.environ, **kit.environment}, start_new_session=True)
child.send_signal(signal.SIGSTOP)
print(kit.token, kit.folder, child.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_crash_of_the_test_process_leaves_nothing_behind() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", CRASHING],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL
    token, folder, pid = ended.stdout.split()
    processes.wait_until(lambda: not processes.is_alive(int(pid)), "the frozen child is gone")
    processes.wait_until(lambda: not os.path.exists(folder), "the folder is gone")  # noqa: PTH110 - a text
    assert processes.marked(token) == []
