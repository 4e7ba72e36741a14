"""One set of promises, kept over memory and over a real Redis."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from pydantic import SecretStr

from app.config.settings import RedisSettings
from app.redis.cache import CacheClient, open_cache
from app.redis.errors import NotACounter


@pytest.fixture(params=["memory", "redis"])
async def cache(request: pytest.FixtureRequest) -> AsyncIterator[CacheClient]:
    url, namespace = "memory://", "test"
    if request.param == "redis":
        services = request.getfixturevalue("services")
        url, namespace = services.redis_url, services.redis_namespace
    settings = RedisSettings(url=SecretStr(url), namespace=namespace, timeout_seconds=2)
    opened = open_cache(settings)
    yield opened.namespace(secrets.token_hex(4))
    await opened.close()


def returning(value: object, calls: list[int] | None = None) -> Callable[[], Awaitable[object]]:
    async def load() -> object:
        if calls is not None:
            calls.append(1)
        await asyncio.sleep(0.01)
        return value

    return load


@pytest.mark.parametrize(
    "value",
    [0, 1.5, True, "text", "", "naïve \u0000 文件", [1, [2]], {"a": {"b": None}}, [], {}, 2**62],
)
async def test_a_value_comes_back_as_json_gives_it(cache: CacheClient, value: object) -> None:
    assert await cache.set("key", value)
    assert await cache.get("key") == value
    assert await cache.exists("key")


async def test_an_absent_key_is_none(cache: CacheClient) -> None:
    assert await cache.get("absent") is None
    assert not await cache.exists("absent")
    assert await cache.delete("absent") == 0
    assert not await cache.expire("absent", 5)
    assert await cache.delete() == 0


async def test_many_values_come_at_once_without_those_that_are_absent(cache: CacheClient) -> None:
    for key in ("a", "b"):
        await cache.set(key, [key])
    assert await cache.get_many(["b", "absent", "a"]) == {"b": ["b"], "a": ["a"]}
    assert await cache.get_many([]) == {}


@pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", float("nan"), float("inf")])
async def test_what_is_no_json_is_a_type_error(cache: CacheClient, value: object) -> None:
    with pytest.raises(TypeError):
        await cache.set("key", value)
    with pytest.raises(TypeError):
        await cache.get_or_load("key", returning(value))
    assert not await cache.exists("key")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
async def test_a_life_without_end_is_refused(cache: CacheClient, seconds: float) -> None:
    with pytest.raises(ValueError, match="ttl_seconds"):
        await cache.set("key", 1, seconds)
    with pytest.raises(ValueError, match="ttl_seconds"):
        await cache.get_or_load("key", returning(1), seconds)
    with pytest.raises(ValueError, match="ttl_seconds"):
        await cache.incr("key", ttl_seconds=seconds)
    with pytest.raises(ValueError, match="ttl_seconds"):
        await cache.expire("key", seconds)
    assert not await cache.exists("key")


async def test_an_entry_ends(cache: CacheClient) -> None:
    await cache.set("short", 1, 0.05)
    await cache.set("long", 1, 60)
    await asyncio.sleep(0.1)
    assert await cache.get("short") is None
    assert await cache.get("long") == 1


async def test_expire_changes_the_life(cache: CacheClient) -> None:
    await cache.set("key", 1, 60)
    assert await cache.expire("key", 0.05)
    await asyncio.sleep(0.1)
    assert not await cache.exists("key")


async def test_delete_takes_several_keys(cache: CacheClient) -> None:
    await cache.set("a", 1)
    await cache.set("b", 2)
    assert await cache.delete("a", "b", "c", "a") == 2
    assert await cache.get("a") is None


async def test_a_counter_counts(cache: CacheClient) -> None:
    assert await cache.incr("n") == 1
    assert await cache.incr("n", 5) == 6
    assert await cache.incr("n", -10) == -4
    assert await cache.get("n") == -4


async def test_a_counter_lives_from_its_first_use(cache: CacheClient) -> None:
    await cache.incr("n", ttl_seconds=1)
    await cache.incr("n", ttl_seconds=60)
    await asyncio.sleep(1.1)
    assert await cache.incr("n", ttl_seconds=60) == 1


async def test_parallel_increments_are_all_counted(cache: CacheClient) -> None:
    await asyncio.gather(*(cache.incr("n") for _ in range(100)))
    assert await cache.get("n") == 100


@pytest.mark.parametrize("value", ["text", {"a": 1}, [1], 1.5, None])
async def test_only_a_counter_can_be_counted(cache: CacheClient, value: object) -> None:
    await cache.set("key", value)
    with pytest.raises(NotACounter):
        await cache.incr("key")
    assert (await cache.health()).status == "ok"


async def test_a_counter_stays_in_64_bits(cache: CacheClient) -> None:
    await cache.incr("n", 2**63 - 1)
    with pytest.raises(NotACounter):
        await cache.incr("n")
    assert await cache.get("n") == 2**63 - 1


@pytest.mark.parametrize(
    "key", ["", " ", "a b", "a:b:c", "\n", "\x00", "文件", "x" * 5000, "\ud800", "{tag}", "*"]
)
async def test_any_text_is_a_key(cache: CacheClient, key: str) -> None:
    await cache.set(key, "here")
    assert await cache.get(key) == "here"
    assert await cache.get(key + "x") is None


async def test_namespaces_and_versions_do_not_meet(cache: CacheClient) -> None:
    clients = [
        cache,
        cache.namespace("a"),
        cache.namespace("a", version=2),
        cache.namespace("a").namespace("b"),
        cache.namespace("b"),
        cache.namespace("a", version=2).namespace("b"),
    ]
    for number, client in enumerate(clients):
        await client.set("key", number)
    assert [await client.get("key") for client in clients] == list(range(len(clients)))


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "a b", "x" * 65, "-"])
async def test_a_bad_namespace_is_refused(cache: CacheClient, name: str) -> None:
    with pytest.raises(ValueError, match="namespace"):
        cache.namespace(name)
    with pytest.raises(ValueError, match="version"):
        cache.namespace("a", version=0)


async def test_a_load_is_kept(cache: CacheClient) -> None:
    calls: list[int] = []
    assert await cache.get_or_load("key", returning((1, 2), calls)) == [1, 2]
    assert await cache.get_or_load("key", returning("other", calls)) == [1, 2]
    assert len(calls) == 1


async def test_nothing_found_is_kept_too(cache: CacheClient) -> None:
    calls: list[int] = []
    assert await cache.get_or_load("key", returning(None, calls)) is None
    assert await cache.get_or_load("key", returning(None, calls)) is None
    assert len(calls) == 1


async def test_fifty_callers_load_once_and_get_values_of_their_own(cache: CacheClient) -> None:
    calls: list[int] = []
    load = returning({"list": [1]}, calls)
    values = await asyncio.gather(*(cache.get_or_load("key", load) for _ in range(50)))
    assert len(calls) == 1
    assert all(value == {"list": [1]} for value in values)
    assert len({id(value) for value in values}) == 50


async def test_other_keys_do_not_wait(cache: CacheClient) -> None:
    started = asyncio.Event()
    release = asyncio.Event()

    async def slow() -> str:
        started.set()
        await release.wait()
        return "slow"

    waiting = asyncio.create_task(cache.get_or_load("slow", slow))
    await started.wait()
    assert await cache.get_or_load("quick", returning("quick")) == "quick"
    release.set()
    assert await waiting == "slow"


async def test_a_failed_load_reaches_all_who_wait_and_is_not_kept(cache: CacheClient) -> None:
    calls: list[int] = []

    async def fail() -> object:
        calls.append(1)
        await asyncio.sleep(0.01)
        raise LookupError("database gone")

    results = await asyncio.gather(
        *(cache.get_or_load("key", fail) for _ in range(5)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["database gone"] * 5
    assert len(calls) == 1
    assert await cache.get_or_load("key", returning("back")) == "back"


async def test_when_the_first_caller_is_cancelled_another_one_loads(cache: CacheClient) -> None:
    started = asyncio.Event()

    async def never() -> object:
        started.set()
        await asyncio.Event().wait()
        return "never"

    first = asyncio.create_task(cache.get_or_load("key", never))
    await started.wait()
    others = [
        asyncio.create_task(cache.get_or_load("key", returning(number))) for number in range(3)
    ]
    await asyncio.sleep(0.05)
    first.cancel()
    values = await asyncio.gather(*others)
    assert len(set(map(str, values))) == 1
    assert first.cancelled() or first.cancelling()


async def test_a_caller_that_gives_up_does_not_stop_the_load(cache: CacheClient) -> None:
    started = asyncio.Event()
    release = asyncio.Event()

    async def load() -> str:
        started.set()
        await release.wait()
        return "done"

    first = asyncio.create_task(cache.get_or_load("key", load))
    await started.wait()
    impatient = asyncio.create_task(cache.get_or_load("key", load))
    await asyncio.sleep(0)
    impatient.cancel()
    await asyncio.wait({impatient})
    release.set()
    assert await first == "done"


async def test_a_value_that_is_too_large_is_returned_but_not_kept(cache: CacheClient) -> None:
    large = "x" * (1 << 20)
    assert not await cache.set("key", large)
    assert await cache.get_or_load("key", returning(large)) == large
    assert not await cache.exists("key")


async def test_the_state_is_healthy(cache: CacheClient) -> None:
    await cache.ping()
    health = await cache.health()
    assert health.status == "ok"
    assert health.breaker == "closed"
    assert health.latency_ms is not None
    assert health.error is None
