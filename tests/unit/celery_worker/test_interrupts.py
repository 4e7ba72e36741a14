"""A signal raises in an author's code at once, and nowhere in the loop's own machinery."""

import asyncio
import os
import signal
import socket
import time
from collections.abc import Iterator
from types import FrameType

import pytest
from sqlalchemy.util import greenlet_spawn

from app.celery_worker.interrupts import CarefulHandler
from app.tasks.loops import cancel_leftovers, run_on

NUMBER = signal.SIGUSR1


class TooLate(Exception):
    """What the handler raises."""


class Told:
    """The frames in which the real handler was called; None stands for the loop's next turn."""

    def __init__(self) -> None:
        self.frames: list[FrameType | None] = []

    def raise_too_late(self, number: int, frame: FrameType | None) -> None:
        assert number == NUMBER
        self.frames.append(frame)
        raise TooLate


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    before = signal.signal(NUMBER, CarefulHandler(told.raise_too_late))
    yield told
    signal.signal(NUMBER, before)


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as opened:
        yield opened


def interrupt() -> None:
    os.kill(os.getpid(), NUMBER)
    # A signal is taken between two lines of Python.
    time.sleep(0)


def test_outside_of_a_loop_it_raises_at_once(told: Told) -> None:
    with pytest.raises(TooLate):
        interrupt()
    assert told.frames[0] is not None


def test_code_that_does_not_await_is_interrupted_on_the_spot(
    told: Told, runner: asyncio.Runner
) -> None:
    async def block() -> str:
        try:
            interrupt()
        except TooLate:
            return "interrupted"
        return "went on"

    assert run_on(runner, block()) == "interrupted"
    assert told.frames[0] is not None


def test_what_the_loop_does_for_a_connection_is_not_interrupted(
    told: Told, runner: asyncio.Runner
) -> None:
    seen = []

    class Protocol(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            interrupt()
            seen.append(data)

    async def receive() -> None:
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        theirs.send(b"whole")
        try:
            await asyncio.sleep(60)
        finally:
            transport.close()
            theirs.close()

    with pytest.raises(TooLate):
        run_on(runner, receive())
    assert seen == [b"whole"]
    assert told.frames == [None]
    cancel_leftovers(runner)
    assert run_on(runner, asyncio.sleep(0, "next")) == "next"


def test_a_database_library_at_work_is_not_interrupted(told: Told, runner: asyncio.Runner) -> None:
    seen = []

    def work() -> None:
        interrupt()
        seen.append("whole")

    async def call() -> None:
        await greenlet_spawn(work)
        await asyncio.sleep(60)

    with pytest.raises(TooLate):
        run_on(runner, call())
    assert seen == ["whole"]
    cancel_leftovers(runner)


def test_an_end_of_the_process_comes_out_as_it_is(runner: asyncio.Runner) -> None:
    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(-241)

    before = signal.signal(NUMBER, CarefulHandler(end))
    try:
        with pytest.raises(SystemExit) as ended:
            run_on(runner, send_and_wait())
    finally:
        signal.signal(NUMBER, before)
    assert type(ended.value) is SystemExit
    assert ended.value.code == -241
    cancel_leftovers(runner)


async def send_and_wait() -> None:
    asyncio.get_running_loop().call_soon(interrupt)
    await asyncio.sleep(60)


def test_a_signal_while_leftovers_are_cancelled_raises_as_well(
    told: Told, runner: asyncio.Runner
) -> None:
    async def leave() -> None:
        async def linger() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                asyncio.get_running_loop().call_soon(interrupt)
                await asyncio.sleep(0.05)

        task = asyncio.create_task(linger())
        runner.left = task  # type: ignore[attr-defined]  # somebody has to hold it
        await asyncio.sleep(0)

    run_on(runner, leave())
    with pytest.raises(TooLate):
        cancel_leftovers(runner)
    assert told.frames == [None]
