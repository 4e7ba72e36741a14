"""One set of promises, kept by every adapter, in the blocking and the asyncio form."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from app.storage import (
    StorageConflict,
    StorageKeyError,
    StorageNotFound,
    StorageTooLarge,
    SyncStorage,
)
from app.storage.asynchronous import AsyncStorage
from app.storage.local import LocalStorage
from app.storage.memory import MemoryStorage


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> SyncStorage:
    return LocalStorage(tmp_path / "files") if request.param == "local" else MemoryStorage()


@pytest.fixture(params=[True, False], ids=["threads", "inline"])
def asynchronous(storage: SyncStorage, request: pytest.FixtureRequest) -> AsyncStorage:
    return AsyncStorage(storage, threads=request.param)


def test_what_was_put_comes_back(storage: SyncStorage) -> None:
    storage.put("jobs/1/source.sql", b"SELECT 1")
    assert storage.get("jobs/1/source.sql") == b"SELECT 1"
    assert storage.size("jobs/1/source.sql") == 8
    assert storage.exists("jobs/1/source.sql")


def test_put_replaces_the_whole_file(storage: SyncStorage) -> None:
    storage.put("a", b"long content")
    storage.put("a", b"short")
    assert storage.get("a") == b"short"


def test_many_files_at_once_are_whole_and_replace(storage: SyncStorage) -> None:
    storage.put("jobs/0/a", b"before")
    files = {f"jobs/{number % 3}/{number}": b"x" * number for number in range(150)}
    storage.put_many([*files.items(), ("jobs/0/a", b"after")])
    assert storage.list() == sorted([*files, "jobs/0/a"])
    assert all(storage.get(key) == data for key, data in files.items())
    assert storage.get("jobs/0/a") == b"after"
    storage.put_many([])


def test_a_bad_key_among_many_is_refused(storage: SyncStorage) -> None:
    with pytest.raises(StorageKeyError):
        storage.put_many([("fine", b""), ("../outside", b"")])


def test_an_empty_file_is_a_file(storage: SyncStorage) -> None:
    storage.put("empty", b"")
    assert storage.exists("empty")
    assert storage.get("empty") == b""
    assert storage.list() == ["empty"]


def test_create_only_refuses_a_taken_key_and_keeps_the_first_file(storage: SyncStorage) -> None:
    storage.put("a", b"first", create_only=True)
    with pytest.raises(StorageConflict):
        storage.put("a", b"second", create_only=True)
    assert storage.get("a") == b"first"


def test_create_only_has_one_winner_in_a_race(storage: SyncStorage) -> None:
    barrier = threading.Barrier(8)
    winners: list[int] = []

    def put(number: int) -> None:
        barrier.wait()
        try:
            storage.put("race", str(number).encode(), create_only=True)
        except StorageConflict:
            return
        winners.append(number)

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(winners) == 1
    assert storage.get("race") == str(winners[0]).encode()


def test_a_missing_file_is_not_found(storage: SyncStorage) -> None:
    storage.put("folder/file", b"x")
    for key in ["missing", "folder", "missing/file", "folder/file/below"]:
        with pytest.raises(StorageNotFound):
            storage.get(key)
        with pytest.raises(StorageNotFound):
            storage.size(key)
        assert not storage.exists(key)
        storage.delete(key)
    assert storage.list() == ["folder/file"]


def test_a_file_is_no_folder_and_a_folder_no_file(storage: SyncStorage) -> None:
    storage.put("a/b", b"x")
    with pytest.raises(StorageConflict):
        storage.put("a", b"x")
    with pytest.raises(StorageConflict):
        storage.put("a/b/c", b"x")
    assert storage.list() == ["a/b"]


def test_a_deleted_files_folder_does_not_stay_in_the_way(storage: SyncStorage) -> None:
    storage.put("a/b/c", b"x")
    storage.delete("a/b/c")
    storage.put("a", b"now a file")
    assert storage.get("a") == b"now a file"


def test_deleting_twice_is_no_error(storage: SyncStorage) -> None:
    storage.put("a", b"x")
    storage.delete("a")
    storage.delete("a")
    assert not storage.exists("a")


def test_the_list_is_sorted_recursive_and_by_folder(storage: SyncStorage) -> None:
    for key in ["jobs/10/z", "jobs/1/b", "jobs/1/a/c", "jobs/1.txt", "other"]:
        storage.put(key, b"x")
    assert storage.list("jobs/1") == ["jobs/1/a/c", "jobs/1/b"]
    assert storage.list("jobs/1/") == ["jobs/1/a/c", "jobs/1/b"]
    assert storage.list() == ["jobs/1.txt", "jobs/1/a/c", "jobs/1/b", "jobs/10/z", "other"]
    assert storage.list("missing") == []
    assert storage.list("other") == []


def test_delete_prefix_takes_the_folder_and_nothing_beside_it(storage: SyncStorage) -> None:
    for key in ["jobs/1/a", "jobs/1/b/c", "jobs/10/a", "jobs/1.txt"]:
        storage.put(key, b"x")
    storage.delete_prefix("jobs/1")
    storage.delete_prefix("jobs/1")
    storage.delete_prefix("jobs/1.txt")
    assert storage.list() == ["jobs/1.txt", "jobs/10/a"]


def test_move_prefix_renames_a_folder(storage: SyncStorage) -> None:
    storage.put("tmp/x/a", b"1")
    storage.put("tmp/x/b/c", b"2")
    storage.move_prefix("tmp/x", "done/y/z")
    assert storage.list() == ["done/y/z/a", "done/y/z/b/c"]
    assert storage.get("done/y/z/b/c") == b"2"


def test_move_prefix_never_overwrites(storage: SyncStorage) -> None:
    storage.put("new/a", b"new")
    storage.put("old/b", b"old")
    storage.put("file", b"x")
    for target in ["old", "file", "file/below"]:
        with pytest.raises(StorageConflict):
            storage.move_prefix("new", target)
    assert storage.list() == ["file", "new/a", "old/b"]


def test_move_prefix_needs_a_folder(storage: SyncStorage) -> None:
    with pytest.raises(StorageNotFound):
        storage.move_prefix("missing", "target")
    assert storage.list() == []


@pytest.mark.parametrize("prefix", ["", "/"])
def test_the_root_is_neither_removed_nor_moved(storage: SyncStorage, prefix: str) -> None:
    storage.put("a", b"x")
    with pytest.raises(StorageKeyError):
        storage.delete_prefix(prefix)
    with pytest.raises(StorageKeyError):
        storage.move_prefix(prefix, "b")
    assert storage.list() == ["a"]


def test_a_range_ends_with_the_file(storage: SyncStorage) -> None:
    storage.put("a", b"0123456789")
    assert storage.get_range("a", 2, 3) == b"234"
    assert storage.get_range("a", 8, 100) == b"89"
    assert storage.get_range("a", 10, 5) == b""
    assert storage.get_range("a", 99, 5) == b""


def test_a_reader_is_seekable(storage: SyncStorage) -> None:
    storage.put("a", b"0123456789")
    with storage.open_reader("a") as reader:
        reader.seek(5)
        assert reader.read() == b"56789"


def test_a_reader_keeps_the_file_that_it_opened(storage: SyncStorage) -> None:
    storage.put("a", b"first")
    with storage.open_reader("a") as reader:
        storage.put("a", b"other")
        assert reader.read() == b"first"


def test_a_stream_is_written_whole(storage: SyncStorage) -> None:
    assert storage.put_stream("a", (bytes([number]) * 1000 for number in range(5))) == 5000
    assert storage.size("a") == 5000


def test_a_stream_over_its_limit_leaves_nothing(storage: SyncStorage) -> None:
    storage.put("a", b"before")
    with pytest.raises(StorageTooLarge):
        storage.put_stream("a", [b"12345", b"6"], max_bytes=5)
    assert storage.put_stream("b", [b"12345"], max_bytes=5) == 5
    assert storage.get("a") == b"before"
    assert storage.list() == ["a", "b"]


def test_a_stream_that_breaks_leaves_nothing(storage: SyncStorage) -> None:
    def chunks() -> Iterator[bytes]:
        yield b"half"
        raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        storage.put_stream("a", chunks())
    assert storage.list() == []


BAD_KEYS = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "../x",
    "parent inside": "a/../../x",
    "parent at the end": "a/..",
    "only parent": "..",
    "dot": "a/./b",
    "empty part": "a//b",
    "closing slash": "a/",
    "backslash": "a\\b",
    "backslash parent": "..\\..\\x",
    "drive": "C:/x",
    "drive relative": "c:x",
    "unc": "//host/share",
    "NUL": "a\x00.sql",
    "newline": "a\nb",
    "escape": "a\x1b[31m",
    "delete": "a\x7f",
    "C1 control": "a\x85b",
    "line separator": "a\u2028b",
    "lone surrogate": "a\ud800",
    "too long": "a/" * 600 + "a",
    "too long in bytes": "é" * 120 + ("/" + "é" * 100) * 5,
    "long part": "a" * 256,
    "long part in bytes": "é" * 128,
    "staging folder": ".taskyard-staging/x",
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS.keys())
def test_a_bad_key_is_refused_everywhere(storage: SyncStorage, key: str) -> None:
    storage.put("good", b"x")
    calls: list[Callable[[], object]] = [
        lambda: storage.put(key, b"x"),
        lambda: storage.put_stream(key, [b"x"]),
        lambda: storage.get(key),
        lambda: storage.get_range(key, 0, 1),
        lambda: storage.open_reader(key),
        lambda: storage.exists(key),
        lambda: storage.size(key),
        lambda: storage.delete(key),
        lambda: storage.local_path(key),
    ]
    for call in calls:
        with pytest.raises(StorageKeyError):
            call()
    assert storage.list() == ["good"]


@pytest.mark.parametrize("prefix", ["..", "a/../..", "/etc", "a//b", "a\x00", "a//", "..\\x"])
def test_a_bad_prefix_is_refused_everywhere(storage: SyncStorage, prefix: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: storage.list(prefix),
        lambda: storage.delete_prefix(prefix),
        lambda: storage.move_prefix(prefix, "b"),
        lambda: storage.move_prefix("b", prefix),
    ]
    for call in calls:
        with pytest.raises(StorageKeyError):
            call()


def test_keys_that_only_look_odd_are_plain_names(storage: SyncStorage) -> None:
    keys = [
        "-rf.sql",
        "...",
        "a b",
        "a%2fb",
        "naïve/文件.sql",
        "~",
        "ab:c",
        "$(touch x)",
        "é" * 127,
    ]
    for key in keys:
        storage.put(key, key.encode())
    assert storage.list() == sorted(keys)
    assert [storage.get(key) for key in keys] == [key.encode() for key in keys]


def test_a_healthy_storage_answers_a_ping(storage: SyncStorage) -> None:
    storage.ping()
    assert storage.list() == []
    assert storage.sync is storage


async def test_the_asyncio_form_does_the_same(asynchronous: AsyncStorage) -> None:
    await asynchronous.put("a/b", b"x")
    with pytest.raises(StorageConflict):
        await asynchronous.put("a/b", b"y", create_only=True)
    assert await asynchronous.get("a/b") == b"x"
    assert await asynchronous.get_range("a/b", 0, 1) == b"x"
    assert await asynchronous.exists("a/b")
    assert await asynchronous.size("a/b") == 1
    await asynchronous.move_prefix("a", "c")
    assert await asynchronous.list() == ["c/b"]
    await asynchronous.delete("c/b")
    await asynchronous.put("d/e", b"x")
    await asynchronous.delete_prefix("d")
    assert await asynchronous.list("d") == []
    await asynchronous.ping()
    await asynchronous.close()


async def test_the_asyncio_reader_streams_in_chunks(asynchronous: AsyncStorage) -> None:
    content = bytes(range(256)) * 10_000
    await asynchronous.put("a", content)
    async with await asynchronous.open_reader("a") as reader:
        assert reader.size == len(content)
        assert await reader.read(10) == content[:10]
        chunks = [chunk async for chunk in reader]
    assert len(chunks) == 3
    assert b"".join(chunks) == content[10:]
    with pytest.raises(StorageNotFound):
        await asynchronous.open_reader("missing")


async def test_the_asyncio_stream_is_written_whole_or_not_at_all(
    asynchronous: AsyncStorage,
) -> None:
    async def chunks(*, broken: bool) -> AsyncIterator[bytes]:
        yield b"half"
        if broken:
            raise RuntimeError("client gone")
        yield b"done"

    with pytest.raises(RuntimeError, match="client gone"):
        await asynchronous.put_stream("a", chunks(broken=True))
    assert await asynchronous.list() == []
    with pytest.raises(StorageTooLarge):
        await asynchronous.put_stream("a", chunks(broken=False), max_bytes=7)
    assert await asynchronous.list() == []
    assert await asynchronous.put_stream("a", chunks(broken=False), max_bytes=8) == 8
    assert await asynchronous.get("a") == b"halfdone"
