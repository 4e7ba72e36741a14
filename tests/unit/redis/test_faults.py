"""The cache without its store: nobody waits twice, nothing is raised, all is counted."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from prometheus_client import REGISTRY
from pydantic import SecretStr

from app.common.errors import ConfigurationError
from app.config.settings import RedisSettings
from app.redis.breaker import Breaker
from app.redis.cache import CacheClient, cache_over, open_cache
from app.redis.errors import CacheUnavailable, StoreGone
from app.redis.memory import MemoryStore


class Peer:
    """A TCP listener that counts its connections and answers what it is told, or never."""

    def __init__(self, answer: bytes | None) -> None:
        self._answer = answer
        self.connections = 0
        self.url = ""

    async def serve(self) -> asyncio.Server:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
        return server

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await reader.read(4096):
                if self._answer is not None:
                    writer.write(self._answer)
        except OSError:
            pass
        finally:
            writer.close()


def cache_at(url: str, timeout_seconds: float = 0.2) -> CacheClient:
    return open_cache(RedisSettings(url=SecretStr(url), timeout_seconds=timeout_seconds))


def dead_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{free.getsockname()[1]}/0"


@pytest.fixture
async def silent() -> AsyncIterator[Peer]:
    peer = Peer(None)
    async with await peer.serve():
        yield peer


@pytest.fixture(params=["dead", "silent", "http", "garbage", "closed"])
async def broken(request: pytest.FixtureRequest) -> AsyncIterator[CacheClient]:
    answers = {"http": b"HTTP/1.1 400 Bad Request\r\n\r\n", "garbage": b"\xff\xfe*-9\r\n$x\r\n"}
    peer = Peer(answers.get(request.param))
    async with await peer.serve() as server:
        url = peer.url
        if request.param == "dead":
            url = dead_url()
        if request.param == "closed":
            server.close()
        cache = cache_at(url)
        yield cache
        await cache.close()


def counted(result: str) -> float:
    return REGISTRY.get_sample_value("taskyard_cache_requests_total", {"result": result}) or 0.0


def loader(value: object, calls: list[int]) -> Callable[[], Awaitable[object]]:
    async def load() -> object:
        calls.append(1)
        return value

    return load


async def test_every_method_answers_without_the_store(broken: CacheClient) -> None:
    assert await broken.get("key") is None
    assert not await broken.set("key", 1)
    assert await broken.delete("key") == 0
    assert await broken.incr("key") is None
    assert not await broken.exists("key")
    assert not await broken.expire("key", 1)
    calls: list[int] = []
    assert await broken.get_or_load("key", loader("database", calls)) == "database"
    assert await broken.get_or_load("key", loader("database", calls)) == "database"
    assert len(calls) == 2


async def test_a_ping_says_that_the_store_is_gone(broken: CacheClient) -> None:
    with pytest.raises(CacheUnavailable):
        await broken.ping()
    health = await broken.health()
    assert health.status == "degraded"
    assert health.breaker == "open"
    assert health.error


async def test_only_the_first_call_waits_for_a_frozen_store(silent: Peer) -> None:
    cache = cache_at(silent.url)
    errors, bypasses = counted("error"), counted("bypass")
    for number in range(50):
        assert await cache.get(f"key{number}") is None
    assert silent.connections == 1
    assert counted("error") - errors == 1
    assert counted("bypass") - bypasses == 49
    await cache.close()


async def test_a_load_without_the_store_is_counted_once(silent: Peer) -> None:
    cache = cache_at(silent.url)
    calls: list[int] = []
    errors, bypasses = counted("error"), counted("bypass")
    await cache.get_or_load("key", loader(1, calls))
    await cache.get_or_load("key", loader(1, calls))
    assert (counted("error") - errors, counted("bypass") - bypasses) == (1, 1)
    assert len(calls) == 2
    await cache.close()


async def test_without_the_store_one_process_still_loads_once() -> None:
    cache = cache_at(dead_url())
    calls: list[int] = []

    async def slow() -> object:
        calls.append(1)
        await asyncio.sleep(0.05)
        return "database"

    values = await asyncio.gather(*(cache.get_or_load("key", slow) for _ in range(20)))
    assert values == ["database"] * 20
    assert len(calls) == 1


async def test_a_failing_loader_is_not_hidden() -> None:
    cache = cache_at(dead_url())

    async def fail() -> object:
        raise LookupError("database gone too")

    with pytest.raises(LookupError, match="gone too"):
        await cache.get_or_load("key", fail)


async def test_hits_and_misses_are_counted() -> None:
    cache = cache_at("memory://")
    hits, misses = counted("hit"), counted("miss")
    await cache.get("key")
    await cache.set("key", 1)
    await cache.get("key")
    await cache.get_or_load("key", loader(2, []))
    assert (counted("hit") - hits, counted("miss") - misses) == (2, 1)


async def test_what_others_wrote_under_our_key_is_a_miss() -> None:
    store = MemoryStore()
    cache = cache_over(store, "test")
    await cache.set("key", 1)
    for junk in [b"{half", b"\xff", b"", b"[" * 100_000]:
        await store.write("test:c:-:v1:key", junk, 60_000)
        assert await cache.get("key") is None
        assert await cache.get_or_load("key", loader("fresh", [])) == "fresh"
        assert await cache.get("key") == "fresh"


class Moody(MemoryStore):
    """A store that can be switched off, for writes only or altogether, or frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.mood = "fine"
        self.calls = 0

    async def read(self, key: str) -> bytes | None:
        await self._mood(writes=False)
        return await super().read(key)

    async def write(self, key: str, value: bytes, ttl_ms: int) -> None:
        await self._mood(writes=True)
        await super().write(key, value, ttl_ms)

    async def _mood(self, *, writes: bool) -> None:
        self.calls += 1
        if self.mood == "frozen":
            await asyncio.sleep(0.3)
            raise StoreGone("no answer")
        if self.mood == "gone" or (self.mood == "full" and writes):
            raise StoreGone("OOM command not allowed")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_store_that_comes_back_is_used_again() -> None:
    store, clock = Moody(), Clock()
    cache = cache_over(store, "test", breaker=Breaker(clock=clock))
    await cache.set("key", "value")
    store.mood = "gone"
    assert await cache.get("key") is None
    store.mood = "fine"
    assert await cache.get("key") is None
    clock.now += 2
    assert await cache.get("key") == "value"
    assert (await cache.health()).breaker == "closed"


async def test_a_full_store_is_probed_by_a_write() -> None:
    store, clock = Moody(), Clock()
    cache = cache_over(store, "test", breaker=Breaker(clock=clock))
    store.mood = "full"
    assert not await cache.set("key", 1)
    clock.now += 2
    assert await cache.get("key") is None
    assert (await cache.health()).breaker == "open"


async def test_a_request_waits_only_briefly_for_the_probe_of_a_frozen_store() -> None:
    store, clock = Moody(), Clock()
    cache = cache_over(store, "test", breaker=Breaker(clock=clock))
    store.mood = "gone"
    await cache.get("key")
    store.mood = "frozen"
    clock.now += 2
    await cache.get("key")
    # The probe still waits for the store; the request did not.
    assert cache_state(cache) == "probing"
    seen = store.calls
    await cache.get("key")
    assert store.calls == seen
    await asyncio.sleep(0.4)
    assert cache_state(cache) == "open"


async def test_a_cancelled_probe_reports_as_failed() -> None:
    store, clock = Moody(), Clock()
    cache = cache_over(store, "test", breaker=Breaker(clock=clock))
    store.mood = "frozen"
    ping = asyncio.create_task(cache.ping())
    await asyncio.sleep(0.05)
    ping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ping
    assert cache_state(cache) == "open"


def cache_state(cache: CacheClient) -> str:
    guard = vars(cache)["_guard"]
    return str(guard.breaker.state)


@pytest.mark.parametrize("url", ["http://x", "", "redis", "s3://x", "memcached://h"])
def test_an_unknown_scheme_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"redis\.url"):
        cache_at(url)


@pytest.mark.parametrize("namespace", ["", "a:b", "a b", "*"])
def test_a_bad_namespace_stops_the_start(namespace: str) -> None:
    with pytest.raises(ConfigurationError, match="namespace"):
        open_cache(RedisSettings(namespace=namespace))


async def test_the_health_report_holds_no_password() -> None:
    url = dead_url().replace("redis://", "redis://user:hunter2@")
    health = await cache_at(url).health()
    assert health.status == "degraded"
    assert "hunter2" not in repr(health)
