import asyncio
import threading

from app.redis.cache import cache_over
from app.redis.memory import MemoryStore


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


async def test_an_entry_ends_when_its_time_is_over() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    await store.write("key", b"1", 1000)
    clock.now += 0.999
    assert await store.read("key") == b"1"
    clock.now += 0.001
    assert await store.read("key") is None
    assert not await store.has("key")


async def test_the_entry_that_was_unused_longest_makes_room() -> None:
    store = MemoryStore(max_entries=2)
    await store.write("a", b"1", 1000)
    await store.write("b", b"2", 1000)
    await store.read("a")
    await store.write("c", b"3", 1000)
    assert [await store.has(key) for key in "abc"] == [True, False, True]


async def test_jitter_only_shortens_a_life() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    cache = cache_over(store, "test")
    for number in range(200):
        await cache.set(str(number), 1, 100)
    clock.now += 89.9
    assert sum([await cache.exists(str(number)) for number in range(200)]) == 200
    clock.now += 5
    assert 0 < sum([await cache.exists(str(number)) for number in range(200)]) < 200
    clock.now += 5.2
    assert sum([await cache.exists(str(number)) for number in range(200)]) == 0


def test_loops_of_several_threads_share_values_and_load_once() -> None:
    cache = cache_over(MemoryStore(), "test")
    calls: list[int] = []
    values: list[object] = []
    barrier = threading.Barrier(4)

    async def load() -> object:
        calls.append(1)
        await asyncio.sleep(0.1)
        return "loaded"

    def work() -> None:
        barrier.wait()
        values.append(asyncio.run(cache.get_or_load("key", load)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values == ["loaded"] * 4
    assert len(calls) == 1
