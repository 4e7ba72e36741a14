"""A door to PostgreSQL that counts the statements that come through it.

The database's own counters need an extension that is loaded at its start. The proxy needs nothing:
it reads the types of the client's messages and passes the bytes on. It refuses encryption, which
is what every client here falls back from on the loopback address.
"""

import asyncio
import contextlib
import struct
import threading
from collections.abc import Iterator
from typing import Final

_SSL_REQUESTS: Final = {80877103, 80877104}
# A simple query, and the execution of a prepared one.
_STATEMENTS: Final = {ord("Q"), ord("E")}
_CHUNK: Final = 65_536


class MessageCounter:
    """Finds the messages in a client's stream of bytes, however it is cut."""

    def __init__(self) -> None:
        self.statements = 0
        self._buffer = bytearray()
        self._is_started = False

    def feed(self, data: bytes) -> bool:
        """Count the whole messages so far; return whether encryption was asked for, which is not
        to be passed on.
        """
        self._buffer += data
        if not self._is_started:
            if len(self._buffer) < 8:
                return False
            length, code = struct.unpack_from("!II", self._buffer)
            if code in _SSL_REQUESTS:
                self._buffer.clear()
                return True
            if len(self._buffer) < length:
                return False
            del self._buffer[:length]
            self._is_started = True
        while len(self._buffer) >= 5:
            kind, length = struct.unpack_from("!BI", self._buffer)
            if len(self._buffer) < length + 1:
                break
            self.statements += kind in _STATEMENTS
            del self._buffer[: length + 1]
        return False


class CountingProxy:
    """Listens on a free port of the loopback address, on a thread of its own."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._counters: list[MessageCounter] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._over: asyncio.Event | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counting-proxy", daemon=True)
        self.port = 0

    @property
    def statements(self) -> int:
        """How many statements have come through so far."""
        return sum(counter.statements for counter in self._counters)

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._ready.wait()

    def stop(self) -> None:
        """Cut every connection."""
        if self._loop is not None and self._over is not None:
            self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def _run(self) -> None:
        # At its end this cancels what is left of the connections.
        asyncio.run(self._listen())

    async def _listen(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        counter = MessageCounter()
        self._counters.append(counter)

        async def up() -> None:
            while data := await reader.read(_CHUNK):
                if counter.feed(data):
                    writer.write(b"N")
                else:
                    there_writer.write(data)

        async def down() -> None:
            while data := await there_reader.read(_CHUNK):
                writer.write(data)

        ways = [asyncio.ensure_future(up()), asyncio.ensure_future(down())]
        try:
            # The end of the proxy is no fault of a connection.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for end in (writer, there_writer):
                with contextlib.suppress(ConnectionError):
                    end.close()


@contextlib.contextmanager
def counting(host: str, port: int) -> Iterator[CountingProxy]:
    """Yield a proxy that is listening."""
    proxy = CountingProxy(host, port)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
