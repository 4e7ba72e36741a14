"""Faults caused on a Redis server of our own: stopped, frozen, read-only, full, flushed."""

import asyncio
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from app.config.settings import RedisSettings
from app.redis.breaker import Breaker
from app.redis.cache import CacheClient, cache_over
from app.redis.connections import RedisClients
from app.redis.store import RedisStore

# Generous, because the tests share the machine; only a frozen server makes anybody wait for it.
TIMEOUT_SECONDS = 5.0
FROZEN_TIMEOUT_SECONDS = 1.0


class Server:
    """A redis-server process that the test may do anything to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--dir", str(self._folder), "--loglevel", "warning"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                self.admin("PING")
            except redis.exceptions.ConnectionError:
                time.sleep(0.05)
            else:
                return
        raise TimeoutError("redis-server did not start")

    def admin(self, *command: str) -> Any:
        with closing(redis.Redis.from_url(self.url, socket_timeout=5)) as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]  # no types

    def signal(self, number: int) -> None:
        assert self.process is not None
        os.kill(self.process.pid, number)

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed on this machine")
    running = Server(tmp_path)
    running.start()
    yield running
    running.stop()


def cache_of(url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> CacheClient:
    settings = RedisSettings(url=SecretStr(url), timeout_seconds=timeout_seconds)
    store = RedisStore(RedisClients(url, settings.timeout_seconds), settings.timeout_seconds)
    # Short pauses, so that a test sees the return of the store.
    breaker = Breaker(first_pause_seconds=0.1, longest_pause_seconds=0.2)
    return cache_over(store, "test", breaker=breaker)


async def until_healthy(cache: CacheClient) -> None:
    for _ in range(100):
        if await cache.set("probe", 1):
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the cache did not come back")


async def test_a_restarted_server_is_used_again(server: Server) -> None:
    cache = cache_of(server.url)
    assert await cache.set("key", 1)
    server.stop()
    assert await cache.get("key") is None
    assert (await cache.health()).status == "degraded"
    server.start()
    await until_healthy(cache)
    assert await cache.get("key") is None
    await cache.close()


async def test_a_quick_restart_between_two_calls_is_not_even_noticed(server: Server) -> None:
    cache = cache_of(server.url)
    assert await cache.set("key", 1)
    server.stop()
    server.start()
    # The loop's next turn is when the end of the old connection is seen.
    await asyncio.sleep(0.01)
    assert await cache.set("key", 2)
    assert await cache.get("key") == 2
    await cache.close()


async def test_after_a_freeze_every_reply_belongs_to_its_question(server: Server) -> None:
    cache = cache_of(server.url, FROZEN_TIMEOUT_SECONDS)
    for number in range(20):
        await cache.set(f"key{number}", number)
    server.signal(signal.SIGSTOP)
    frozen = await asyncio.gather(*(cache.get(f"key{number}") for number in range(20)))
    assert frozen == [None] * 20
    assert (await cache.health()).breaker == "open"
    server.signal(signal.SIGCONT)
    await until_healthy(cache)
    for _ in range(5):
        values = await asyncio.gather(*(cache.get(f"key{number}") for number in range(20)))
        assert values == list(range(20))
    await cache.close()


async def test_cancelled_calls_leave_no_reply_behind(server: Server) -> None:
    cache = cache_of(server.url)
    for number in range(10):
        await cache.set(f"key{number}", number)
    for turns in range(12):
        calls = [asyncio.create_task(cache.get("key9")) for _ in range(5)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        values = await asyncio.gather(*(cache.get(f"key{number}") for number in range(10)))
        assert values == list(range(10))
    await cache.close()


async def test_a_read_only_server_is_bypassed(server: Server) -> None:
    cache = cache_of(server.url)
    assert await cache.set("key", "old")
    server.admin("REPLICAOF", "127.0.0.1", "1")
    assert not await cache.set("key", "new")
    assert await cache.get_or_load("key", returning("database")) == "database"
    assert (await cache.health()).status == "degraded"
    server.admin("REPLICAOF", "NO", "ONE")
    await until_healthy(cache)
    assert await cache.get("key") == "old"
    await cache.close()


async def test_a_full_server_is_bypassed(server: Server) -> None:
    cache = cache_of(server.url)
    server.admin("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.admin("CONFIG", "SET", "maxmemory", "1")
    assert not await cache.set("key", "value")
    assert await cache.get_or_load("key", returning("database")) == "database"
    assert await cache.incr("n") is None
    assert (await cache.health()).status == "degraded"
    server.admin("CONFIG", "SET", "maxmemory", "0")
    await until_healthy(cache)
    await cache.close()


async def test_a_flushed_server_is_loaded_anew(server: Server) -> None:
    cache = cache_of(server.url)
    assert await cache.get_or_load("key", returning(1)) == 1
    server.admin("FLUSHALL")
    assert await cache.get_or_load("key", returning(2)) == 2
    await cache.close()


async def test_a_server_that_wants_a_password_is_bypassed(server: Server) -> None:
    server.admin("CONFIG", "SET", "requirepass", "secret")
    cache = cache_of(server.url)
    assert not await cache.set("key", 1)
    assert (await cache.health()).status == "degraded"
    await cache.close()


def returning(value: object) -> Any:
    async def load() -> object:
        return value

    return load


def test_every_loop_has_its_own_connections(server: Server) -> None:
    cache = cache_of(server.url)
    failures: list[object] = []
    barrier = threading.Barrier(4)

    async def rounds() -> None:
        for number in range(50):
            name = f"{threading.get_ident()}:{number}"
            if not await cache.set(name, number) or await cache.get(name) != number:
                failures.append(name)
        await cache.close()

    def work() -> None:
        barrier.wait()
        asyncio.run(rounds())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def _load_in_child(url: str, start: float, results: Any, calls: Any) -> None:
    async def load() -> object:
        with calls.get_lock():
            calls.value += 1
        await asyncio.sleep(0.3)
        return "loaded"

    async def work() -> object:
        cache = cache_of(url)
        value = await cache.get_or_load("key", load)
        await cache.close()
        return value

    time.sleep(max(0.0, start - time.time()))
    results.put(asyncio.run(work()))


def test_several_processes_load_once(server: Server) -> None:
    context = multiprocessing.get_context("spawn")
    results, calls = context.Queue(), context.Value("i", 0)
    start = time.time() + 4
    arguments = (server.url, start, results, calls)
    children = [context.Process(target=_load_in_child, args=arguments) for _ in range(3)]
    for child in children:
        child.start()
    values = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    assert values == ["loaded"] * 3
    assert calls.value == 1


async def test_a_lock_whose_owner_died_does_not_block(server: Server) -> None:
    cache = cache_of(server.url)
    server.admin("SET", "test:l:-:v1:key", "token of the dead", "PX", "300")
    assert await cache.get_or_load("key", returning("loaded")) == "loaded"
    await cache.close()


def test_a_forked_child_uses_connections_of_its_own(server: Server) -> None:
    cache = cache_of(server.url)
    with asyncio.Runner() as parent:
        assert parent.run(many_rounds(cache, "parent"))
        child = os.fork()
        if child == 0:
            os._exit(exit_code_of_child(cache))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert parent.run(many_rounds(cache, "parent"))
        parent.run(cache.close())


async def many_rounds(cache: CacheClient, name: str) -> bool:
    results = []
    for number in range(20):
        await cache.set(name, number)
        results.append(await cache.get(name) == number)
    return all(results)


def exit_code_of_child(cache: CacheClient) -> int:
    try:
        return 0 if asyncio.run(many_rounds(cache, "child")) else 1
    except BaseException:  # noqa: BLE001 - a forked test process must not return into pytest
        return 2
