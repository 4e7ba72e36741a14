"""What only a real folder can get wrong: links, modes, leftovers, races, lost roots."""

import errno
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.storage import (
    StorageConflict,
    StorageKeyError,
    StorageNotFound,
    StorageUnavailable,
    SyncStorage,
)
from app.storage.confined import translated
from app.storage.keys import STAGING_FOLDER
from app.storage.local import LocalStorage

OPERATIONS: dict[str, Callable[[SyncStorage, str], object]] = {
    "get": lambda s, key: s.get(key),
    "get_range": lambda s, key: s.get_range(key, 0, 1),
    "open_reader": lambda s, key: s.open_reader(key),
    "exists": lambda s, key: s.exists(key),
    "size": lambda s, key: s.size(key),
    "local_path": lambda s, key: s.local_path(key),
    "delete": lambda s, key: s.delete(key),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(b"secret")
    yield folder
    assert [path.name for path in folder.iterdir()] == ["secret"]
    assert (folder / "secret").read_bytes() == b"secret"


@pytest.fixture
def storage(root: Path) -> LocalStorage:
    return LocalStorage(root)


@pytest.mark.parametrize("call", OPERATIONS.values(), ids=OPERATIONS.keys())
@pytest.mark.parametrize("key", ["link", "folder/secret", "a/folder/secret"])
def test_no_link_is_followed(
    storage: LocalStorage,
    root: Path,
    outside: Path,
    key: str,
    call: Callable[[SyncStorage, str], object],
) -> None:
    (root / "a").mkdir()
    (root / "link").symlink_to(outside / "secret")
    (root / "folder").symlink_to(outside)
    (root / "a" / "folder").symlink_to("../../outside")
    with pytest.raises(StorageKeyError, match="symbolic link"):
        call(storage, key)
    assert storage.list() == []


@pytest.mark.parametrize("create_only", [True, False])
def test_nothing_is_written_through_a_linked_folder(
    storage: LocalStorage, root: Path, outside: Path, create_only: bool
) -> None:
    (root / "folder").symlink_to(outside)
    for key in ["folder/new", "folder/deep/new", "folder/secret"]:
        with pytest.raises(StorageKeyError):
            storage.put(key, b"x", create_only=create_only)


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(
    storage: LocalStorage, root: Path, outside: Path
) -> None:
    (root / "link").symlink_to(outside / "secret")
    with pytest.raises(StorageConflict):
        storage.put("link", b"new", create_only=True)
    storage.put("link", b"new")
    assert not (root / "link").is_symlink()
    assert storage.get("link") == b"new"


def test_removing_a_folder_removes_links_in_it_and_not_what_they_lead_to(
    storage: LocalStorage, root: Path, outside: Path
) -> None:
    storage.put("job/tmp/a", b"x")
    (root / "job/tmp/link").symlink_to(outside)
    (root / "job/link").symlink_to(outside / "secret")
    storage.delete_prefix("job")
    assert not (root / "job").exists()


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.delete_prefix("link"),
        lambda s: s.list("link"),
        lambda s: s.list("link/below"),
        lambda s: s.delete_prefix("link/below"),
        lambda s: s.move_prefix("link", "x"),
        lambda s: s.move_prefix("a", "link"),
        lambda s: s.move_prefix("a", "link/x"),
    ],
    ids=["remove", "list", "list below", "remove below", "move", "move onto", "move below"],
)
def test_folders_are_not_reached_over_links(
    storage: LocalStorage, root: Path, outside: Path, call: Callable[[SyncStorage], object]
) -> None:
    storage.put("a/b", b"x")
    (root / "link").symlink_to(outside)
    with pytest.raises(StorageKeyError):
        call(storage)
    assert storage.list() == ["a/b"]


def test_a_link_back_into_the_root_is_refused_too(storage: LocalStorage, root: Path) -> None:
    storage.put("a/b", b"x")
    (root / "loop").symlink_to(root)
    (root / "self").symlink_to("self")
    for key in ["loop/a/b", "loop/loop/a/b", "self", "self/x"]:
        with pytest.raises(StorageKeyError):
            storage.get(key)
    assert storage.list() == ["a/b"]


def test_special_files_are_no_files(storage: LocalStorage, root: Path, monkeypatch: Any) -> None:
    os.mkfifo(root / "fifo")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        for name in ["fifo", "socket"]:
            for call in OPERATIONS.values():
                with pytest.raises(StorageKeyError):
                    call(storage, name)
    assert storage.list() == []


def test_a_file_is_for_its_owner_and_group_whatever_the_umask(
    storage: LocalStorage, root: Path
) -> None:
    for mask in [0o000, 0o077, 0o777]:
        old = os.umask(mask)
        try:
            storage.put("a", b"x")
        finally:
            os.umask(old)
        assert stat.S_IMODE((root / "a").stat().st_mode) == 0o640


def test_readers_see_whole_files_while_a_writer_replaces_them(storage: LocalStorage) -> None:
    contents = [bytes([number]) * 200_000 for number in (1, 2)]
    storage.put("a", contents[0])
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            for content in contents:
                storage.put("a", content)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert all(storage.get("a") in contents for _ in range(200))
    finally:
        stop.set()
        writer.join()


def test_a_writer_and_a_remover_of_its_folder_do_not_disturb_each_other(
    storage: LocalStorage,
) -> None:
    stop = threading.Event()

    def remove() -> None:
        while not stop.is_set():
            storage.delete("folder/other")

    remover = threading.Thread(target=remove)
    remover.start()
    try:
        for number in range(200):
            storage.put("folder/other", b"y")
            storage.put(f"folder/deep/{number}", b"x")
    finally:
        stop.set()
        remover.join()
    assert len(storage.list("folder/deep")) == 200


def test_what_a_crash_left_unfinished_is_swept_and_never_seen(root: Path) -> None:
    staging = root / STAGING_FOLDER
    staging.mkdir()
    (staging / "old").write_bytes(b"half")
    (staging / "new").write_bytes(b"half")
    (staging / "removed" / "deep").mkdir(parents=True)
    past = time.time() - 7200
    for name in ["old", "removed"]:
        os.utime(staging / name, (past, past))
    storage = LocalStorage(root)
    assert storage.list() == []
    storage.put("a", b"x")
    assert [path.name for path in staging.iterdir()] == ["new"]


def test_nothing_unfinished_stays_behind(storage: LocalStorage, root: Path) -> None:
    storage.put("a", b"x")
    with pytest.raises(StorageConflict):
        storage.put("a", b"x", create_only=True)
    with pytest.raises(ZeroDivisionError):
        storage.put_stream("b", (bytes(1 // number) for number in [1, 0]))
    storage.ping()
    assert list((root / STAGING_FOLDER).iterdir()) == []


def test_files_with_names_that_are_no_keys_are_not_listed(
    storage: LocalStorage, root: Path
) -> None:
    for name in [b"good", b"bad\\name", b"bad\nname", b"bad\xffname"]:
        Path(os.fsdecode(os.fsencode(root) + b"/" + name)).write_bytes(b"x")
    assert storage.list() == ["good"]


def test_the_root_is_made_when_its_parent_is_there(tmp_path: Path) -> None:
    storage = LocalStorage(tmp_path / "new")
    assert storage.list() == []
    assert (tmp_path / "new").is_dir()
    unmounted = LocalStorage(tmp_path / "mount" / "files")
    for call in OPERATIONS.values():
        with pytest.raises(StorageUnavailable, match="missing"):
            call(unmounted, "a")
    with pytest.raises(StorageUnavailable):
        unmounted.put("a", b"x")
    with pytest.raises(StorageUnavailable):
        unmounted.list()
    assert not (tmp_path / "mount").exists()


def test_a_root_that_is_lost_is_not_made_again(storage: LocalStorage, root: Path) -> None:
    storage.put("a", b"x")
    lost = root.rename(root.with_name("elsewhere"))
    for call in OPERATIONS.values():
        with pytest.raises(StorageUnavailable):
            call(storage, "a")
    with pytest.raises(StorageUnavailable):
        storage.put("a", b"x")
    with pytest.raises(StorageUnavailable):
        storage.ping()
    assert not root.exists()
    lost.rename(root)
    assert storage.get("a") == b"x"


def test_a_root_that_is_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageUnavailable):
        LocalStorage(tmp_path / "file").put("a", b"x")


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, StorageUnavailable),
        (errno.EDQUOT, StorageUnavailable),
        (errno.EROFS, StorageUnavailable),
        (errno.EIO, StorageUnavailable),
        (errno.ESTALE, StorageUnavailable),
        (errno.EACCES, StorageUnavailable),
        (errno.EMFILE, StorageUnavailable),
        (errno.ENOENT, StorageNotFound),
        (errno.EEXIST, StorageConflict),
        (errno.ENOTDIR, StorageConflict),
        (errno.ENAMETOOLONG, StorageKeyError),
    ],
)
def test_every_error_of_the_system_has_its_meaning(number: int, expected: type[Exception]) -> None:
    with pytest.raises(expected) as raised, translated("the/key"):
        raise OSError(number, os.strerror(number), "/secret/path")
    assert "/secret/path" not in str(raised.value)


def test_a_file_larger_than_the_process_may_write_leaves_nothing(root: Path) -> None:
    import resource
    import signal

    storage = LocalStorage(root)
    storage.put("a", b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(StorageUnavailable):
            storage.put("a", bytes(20_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert storage.get("a") == b"before"
    assert storage.list() == ["a"]
    assert list((root / STAGING_FOLDER).iterdir()) == []


def test_the_local_path_leads_to_the_file(storage: LocalStorage, root: Path) -> None:
    storage.put("a/b", b"x")
    assert storage.local_path("a/b") == root / "a/b"
    with pytest.raises(StorageNotFound):
        storage.local_path("a/c")
    with pytest.raises(StorageNotFound):
        storage.local_path("a")


def test_no_descriptor_stays_open(storage: LocalStorage, root: Path, outside: Path) -> None:
    (root / "link").symlink_to(outside)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        storage.put("a/b/c", b"x")
        storage.get("a/b/c")
        storage.list()
        storage.ping()
        for call in OPERATIONS.values():
            for key in ["link", "link/x", "a/b", "missing/x"]:
                try:
                    call(storage, key)
                except (StorageKeyError, StorageNotFound):
                    continue
        storage.delete_prefix("a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_several_removers_of_one_folder_do_not_disturb_each_other(storage: LocalStorage) -> None:
    failures: list[Exception] = []
    for _ in range(10):
        for number in range(20):
            storage.put(f"job/{number}", b"x")
        barrier = threading.Barrier(4)

        def remove(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            try:
                storage.delete_prefix("job")
            except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
                failures.append(error)

        threads = [threading.Thread(target=remove) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []
    assert storage.list() == []
