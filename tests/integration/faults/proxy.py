"""A TCP proxy on loopback that makes a network bad: slow, narrow, silent, broken, refusing.

It runs on a loop and a thread of its own; a test changes `fault` at any time, and connections that
are open feel it as well as new ones.
"""

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Self

from tests.integration.faults.nodes import free_port

_CHUNK: Final = 16_384
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Fault:
    """What is wrong with the network; the default is nothing."""

    latency_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float | None = None
    # Accepts and swallows: nothing comes through and nothing is told.
    black_hole: bool = False
    # Connections break by themselves after so many bytes in one direction, with a reset.
    cut_after_bytes: int | None = None


@dataclass(eq=False)
class _Link:
    client: asyncio.StreamWriter
    server: asyncio.StreamWriter


class Proxy:
    """Listens on `port` and forwards to `target`; a context manager."""

    def __init__(self, target: int, *, seed: int = 0) -> None:
        self.port = free_port()
        self.fault = Fault()
        self._target = target
        self._random = random.Random(seed)
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.accept()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def connections(self) -> int:
        return len(self._links)

    def accept(self) -> None:
        """Listen (again)."""
        self._call(self._listen())

    def refuse(self) -> None:
        """Refuse new connections and reset the open ones."""
        self._call(self._close())
        self.reset()

    def reset(self) -> None:
        """Break every open connection with a reset (RST) on both sides."""
        self._each(_break_both)

    def half_open(self) -> None:
        """Break the server's side and leave the client's open: it is told nothing."""
        self._each(lambda link: _break(link.server))

    def heal(self) -> None:
        """Forward again; a link that has swallowed bytes is of no more use, so it ends."""
        was_hole, self.fault = self.fault.black_hole, Fault()
        if was_hole:
            self.reset()

    def _each(self, do: Callable[[_Link], object]) -> None:
        async def run() -> None:
            for link in tuple(self._links):
                do(link)

        self._call(run())

    def _call(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def _close(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.close()

    async def _end(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            _break(writer)
            return
        link = _Link(writer, to_server)
        self._links.add(link)
        try:
            await asyncio.gather(
                self._forward(reader, to_server, link), self._forward(from_server, writer, link)
            )
        finally:
            self._links.discard(link)
            for end in (writer, to_server):
                end.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: _Link
    ) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                fault = self.fault
                passed += len(data)
                await self._delay(fault, len(data))
                if fault.cut_after_bytes is not None and passed > fault.cut_after_bytes:
                    _break_both(link)
                    return
                if not self.fault.black_hole:
                    writer.write(data)
                    await writer.drain()
            if writer.can_write_eof() and not self.fault.black_hole:
                writer.write_eof()

    async def _delay(self, fault: Fault, size: int) -> None:
        seconds = fault.latency_seconds
        seconds += fault.jitter_seconds * self._random.uniform(-1.0, 1.0)
        if fault.bytes_per_second is not None:
            seconds += size / fault.bytes_per_second
        if seconds > 0:
            await asyncio.sleep(seconds)


def _break_both(link: _Link) -> None:
    _break(link.client)
    _break(link.server)


def _break(writer: asyncio.StreamWriter) -> None:
    """Close with a reset instead of a farewell."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
