"""Frames: what goes in comes out, and what is no frame is refused."""

import socket
import struct
import time
from collections.abc import Iterator

import pytest

from app.plugins.lint.sandbox_frames import Frame, FrameError, receive, send

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def test_frames_keep_their_order_and_bytes(pair: Pair) -> None:
    frames = [Frame({"a": 1}, b"\x00\xff" * 1000), Frame({"b": "é"}), Frame({})]
    for frame in frames:
        send(pair[0], frame)
    assert [receive(pair[1]) for _ in frames] == frames


def test_a_clean_end_is_none(pair: Pair) -> None:
    pair[0].close()
    assert receive(pair[1]) is None


def test_an_end_inside_a_frame_is_an_error(pair: Pair) -> None:
    pair[0].sendall(struct.pack(">II", 10, 0) + b'{"a"')
    pair[0].close()
    with pytest.raises(FrameError, match="ended inside"):
        receive(pair[1])


@pytest.mark.parametrize("header", [b"not json", b"[1]", b"\xff\xff"])
def test_a_header_that_is_no_object_is_an_error(pair: Pair, header: bytes) -> None:
    pair[0].sendall(struct.pack(">II", len(header), 0) + header)
    with pytest.raises(FrameError, match="header"):
        receive(pair[1])


@pytest.mark.parametrize("lengths", [(2**31, 0), (2, 2**31)])
def test_lengths_over_the_limit_are_refused_before_they_are_read(
    pair: Pair, lengths: tuple[int, int]
) -> None:
    pair[0].sendall(struct.pack(">II", *lengths))
    with pytest.raises(FrameError, match="over the limit"):
        receive(pair[1])


def test_silence_ends_at_the_deadline(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        receive(pair[1], deadline=time.monotonic() + 0.05)


def test_a_reader_that_does_not_read_ends_the_writer_at_the_deadline(pair: Pair) -> None:
    with pytest.raises(TimeoutError):
        send(pair[0], Frame({}, b"x" * 10_000_000), deadline=time.monotonic() + 0.05)
