"""A load generator for machines without wrk: one process, keep-alive connections, no library
between the socket and the counting but the parser.

Reads one JSON document (url, body, headers, seconds, connections) from standard input and prints
one: requests, seconds, refused, broken, p50 and p99 in milliseconds.
"""

import asyncio
import json
import sys
import time
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httptools

from bench.statistics import percentile


@dataclass
class Seen:
    """What all connections have counted together."""

    ends_at: float
    milliseconds: list[float] = field(default_factory=list)
    refused: int = 0
    broken: int = 0


class Connection(asyncio.Protocol):
    """Sends the request, waits for the whole answer, and sends it again until the time is over."""

    def __init__(self, request: bytes, seen: Seen, done: "asyncio.Future[None]") -> None:
        self._request, self._seen, self._done = request, seen, done
        self._parser = httptools.HttpResponseParser(self)
        self._sent_at = 0.0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - of a TCP connection
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_complete(self) -> None:
        now = time.perf_counter()
        self._seen.milliseconds.append((now - self._sent_at) * 1000)
        self._seen.refused += self._parser.get_status_code() >= 400
        if now < self._seen.ends_at:
            self._send()
        elif self._transport is not None:
            self._done.set_result(None)
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        if not self._done.done():
            self._seen.broken += 1
            self._done.set_result(None)

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        if self._transport is not None:
            self._transport.write(self._request)


def request_of(url: str, body: str, headers: Mapping[str, str]) -> bytes:
    """Return the bytes of a POST."""
    parts = urllib.parse.urlsplit(url)
    content = body.encode()
    lines = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Length: {len(content)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + content


async def load(asked: Mapping[str, Any]) -> dict[str, float]:
    """Return what was seen."""
    loop = asyncio.get_running_loop()
    parts = urllib.parse.urlsplit(asked["url"])
    request = request_of(asked["url"], asked["body"], asked["headers"])
    started = time.perf_counter()
    seen = Seen(started + asked["seconds"])
    ends = [loop.create_future() for _ in range(asked["connections"])]
    for end in ends:
        await loop.create_connection(
            lambda end=end: Connection(request, seen, end),  # type: ignore[misc] # of this round
            parts.hostname,
            parts.port,
        )
    await asyncio.gather(*ends)
    return {
        "requests": len(seen.milliseconds),
        "seconds": time.perf_counter() - started,
        "refused": seen.refused,
        "broken": seen.broken,
        "p50": percentile(seen.milliseconds, 50),
        "p99": percentile(seen.milliseconds, 99),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(load(json.load(sys.stdin)))))
