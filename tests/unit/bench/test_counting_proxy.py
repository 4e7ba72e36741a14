import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from bench.counting_proxy import MessageCounter, counting

STARTUP = struct.pack("!II", 16, 196608) + b"user\0\0\0\0"
SSL_REQUEST = struct.pack("!II", 8, 80877103)


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


SESSION = (
    STARTUP
    + message(b"p", b"secret\0")
    + message(b"Q", b"SELECT 1\0")
    + message(b"P", b"E" * 40)
    + message(b"B")
    + message(b"E", b"\0" * 5)
    + message(b"S")
    + message(b"X")
)


@pytest.mark.parametrize("size", [1, 3, 7, len(SESSION)])
def test_queries_and_executions_are_counted_however_the_bytes_are_cut(size: int) -> None:
    counter = MessageCounter()
    for start in range(0, len(SESSION), size):
        assert not counter.feed(SESSION[start : start + size])
    assert counter.statements == 2


def test_encryption_is_refused_and_the_session_goes_on() -> None:
    counter = MessageCounter()
    assert counter.feed(SSL_REQUEST)
    assert not counter.feed(SESSION)
    assert counter.statements == 2


@pytest.fixture
def echo() -> Iterator[int]:
    """A server that sends back what it gets, on the port that it yields."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                while data := connection.recv(1000):
                    connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        thread.join()


def test_bytes_go_through_both_ways(echo: int) -> None:
    with counting("127.0.0.1", echo) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port)) as client:
            client.sendall(SSL_REQUEST)
            assert client.recv(1) == b"N"
            client.sendall(SESSION)
            seen = b""
            while len(seen) < len(SESSION):
                seen += client.recv(1000)
            assert seen == SESSION
        assert proxy.statements == 2
