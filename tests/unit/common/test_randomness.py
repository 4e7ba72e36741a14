import os
import threading

import pytest

from app.common import randomness
from app.common.randomness import RandomStock, random_bytes


def test_no_byte_is_handed_out_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = [bytes([number]) * 4096 for number in range(1, 4)]
    monkeypatch.setattr(os, "urandom", lambda _count: blocks.pop(0))
    stock = RandomStock()
    drawn = [stock.draw(1000) for _ in range(8)]
    # Four parts of each block; what is left of it is never used for less.
    assert drawn == [bytes([number]) * 1000 for number in (1, 1, 1, 1, 2, 2, 2, 2)]


def test_threads_never_share_a_part() -> None:
    made: list[bytes] = []

    def draw() -> None:
        made.extend([random_bytes(16) for _ in range(2000)])

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 8000


def test_a_child_draws_other_bytes_than_its_parent_even_while_a_thread_draws() -> None:
    random_bytes(1)
    read_end, write_end = os.pipe()
    with randomness._stock._lock:  # noqa: SLF001 - what a thread that draws holds
        child = os.fork()
        if child == 0:
            os.write(write_end, random_bytes(64))
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        assert pipe.read() != random_bytes(64)
