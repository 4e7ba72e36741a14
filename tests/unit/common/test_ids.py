import os
import signal
import threading
import time
import uuid

import pytest

from app.common import ids
from app.common.ids import new_id, parse_id


def test_an_id_is_a_uuid_of_version_7_with_the_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(new_id())
    after = time.time_ns() // 1_000_000
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    # An id may run ahead of the clock by what the counter needed, never behind.
    assert before <= made.int >> 80 <= after + 1000


def test_ids_of_one_process_rise() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(set(made))


def test_ids_rise_over_threads() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(new_id() for _ in range(2000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(part == sorted(part) for part in made)
    assert len({one for part in made for one in part}) == 8000


def test_ids_rise_when_the_clock_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    first = new_id()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    assert new_id() > first


def test_a_child_makes_its_own_ids_even_while_a_thread_held_the_lock() -> None:
    read_end, write_end = os.pipe()
    with ids._lock:  # noqa: SLF001 - what a thread in `new_id` holds
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # A child that waits for the lock for ever ends all the same.
            os.write(write_end, "".join(new_id() for _ in range(10)).encode())
            os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        text = pipe.read()
    from_child = {text[start : start + 36] for start in range(0, len(text), 36)}
    assert len(from_child) == 10
    assert from_child.isdisjoint(new_id() for _ in range(10))


def test_ids_that_both_sides_of_a_fork_make_at_one_tick_differ(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ids, "_last_tick", 1 << 70)
    first = new_id()
    monkeypatch.setattr(ids, "_last_tick", 1 << 70)
    assert new_id() != first


@pytest.mark.parametrize("change", [str, str.upper, str.title])
def test_one_canonical_form(change: type[str]) -> None:
    made = new_id()
    assert parse_id(change(made)) == made


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "{0198c0de-0000-7000-8000-000000000000}",
        "urn:uuid:0198c0de-0000-7000-8000-000000000000",
        "0198c0de00007000800000000000000000",
        "0198c0de-0000-7000-8000-00000000000",
        "0198c0de-0000-7000-8000-0000000000000",
        "0198c0de-0000-7000-8000-000000000000\n",
        " 0198c0de-0000-7000-8000-000000000000",
        "0198c0de-0000-7000-8000-00000000000g",
        "0198c0de-0000-7000-8000-00000000000\uff10",
        "0198c0de-0000-7000-8000-00000000000\x00",
        "0" * 10_000,
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    with pytest.raises(ValueError, match="36-character"):
        parse_id(text)
