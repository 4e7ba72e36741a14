"""Messages between the worker, the zygote and the lint child: two lengths, JSON, bytes."""

import json
import socket
import struct
import time
from typing import Any, NamedTuple

_LENGTHS = struct.Struct(">II")
_MAX_HEADER_BYTES = 64 * 1024
_MAX_BODY_BYTES = 128 * 1024 * 1024
# The reason of a time-out during which the child had less than half of a processor.
STARVED = "starved"


class Frame(NamedTuple):
    """One message: a small JSON object and a body that the middle process passes on unread."""

    header: dict[str, Any]
    body: bytes = b""


class FrameError(Exception):
    """The other side sent something that is no frame."""


def send(connection: socket.socket, frame: Frame, *, deadline: float | None = None) -> None:
    """Write a frame; TimeoutError at the deadline (of `time.monotonic`), OSError when cut."""
    header = json.dumps(frame.header, separators=(",", ":")).encode()
    connection.settimeout(_remaining(deadline))
    connection.sendall(_LENGTHS.pack(len(header), len(frame.body)) + header)
    if frame.body:
        connection.settimeout(_remaining(deadline))
        connection.sendall(frame.body)


def receive(connection: socket.socket, *, deadline: float | None = None) -> Frame | None:
    """Read a frame; None at a clean end, TimeoutError at the deadline, FrameError for rubbish."""
    lengths = _read(connection, _LENGTHS.size, deadline)
    if lengths is None:
        return None
    header_length, body_length = _LENGTHS.unpack(lengths)
    if header_length > _MAX_HEADER_BYTES or body_length > _MAX_BODY_BYTES:
        message = f"a frame of {header_length} + {body_length} bytes is over the limit"
        raise FrameError(message)
    header = _read(connection, header_length, deadline)
    body = _read(connection, body_length, deadline)
    if header is None or body is None:
        message = "the connection ended inside a frame"
        raise FrameError(message)
    return Frame(_parse(header), bytes(body))


def _parse(header: bytearray) -> dict[str, Any]:
    try:
        parsed = json.loads(header)
    except ValueError as error:
        message = "a frame's header is not JSON"
        raise FrameError(message) from error
    if not isinstance(parsed, dict):
        message = "a frame's header is not a JSON object"
        raise FrameError(message)
    return parsed


def _read(connection: socket.socket, length: int, deadline: float | None) -> bytearray | None:
    data = bytearray(length)
    view = memoryview(data)
    filled = 0
    while filled < length:
        connection.settimeout(_remaining(deadline))
        count = connection.recv_into(view[filled:])
        if count == 0:
            return None
        filled += count
    return data


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    # Zero would mean "do not block", and fail with another error than a time-out.
    return max(deadline - time.monotonic(), 0.001)
