import hashlib
import json
import stat
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from app import Fatal, Retry
from app.plugins.archive.errors import ArchiveMissing, ArchiveUnusable, TargetTaken
from app.plugins.archive.schemas import ExpandedArchive
from app.plugins.archive.service import ArchiveExpander
from app.plugins.archive.settings import ArchiveSettings
from app.storage import StorageUnavailable, SyncStorage
from app.storage.local import LocalStorage
from app.storage.memory import MemoryStorage
from tests.unit.storage.zip_builder import SQL, Item, build

TASK = "01994c5e-0000-7000-8000-000000000001"
OTHER_TASK = "01994c5e-0000-7000-8000-000000000002"


@pytest.fixture(params=["local", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> SyncStorage:
    return LocalStorage(tmp_path / "files") if request.param == "local" else MemoryStorage()


def expand(
    storage: SyncStorage,
    *,
    task_id: str = TASK,
    attempt: int = 1,
    target: str = "out/here",
    settings: ArchiveSettings | None = None,
    progress: Callable[[int, int], None] = lambda current, total: None,
) -> ExpandedArchive:
    expander = ArchiveExpander(
        storage=storage,
        settings=settings or ArchiveSettings(),
        task_id=task_id,
        attempt=attempt,
        progress=progress,
    )
    return expander.expand("in.zip", target)


def test_files_get_names_of_our_own(storage: SyncStorage) -> None:
    storage.put("in.zip", build(Item(b"sql/a.SQL"), Item(b"-rf; $(id)"), Item(b"x.tar.g\xc3\xa9")))
    result = expand(storage)
    assert result.outcome == "accepted"
    assert [(file.name, file.key) for file in result.files] == [
        ("sql/a.SQL", "out/here/files/000001.sql"),
        ("-rf; $(id)", "out/here/files/000002"),
        ("x.tar.gé", "out/here/files/000003"),
    ]
    for file in result.files:
        assert storage.get(file.key) == SQL
        assert file.size_bytes == len(SQL)
        assert file.sha256 == hashlib.sha256(SQL).hexdigest()
    assert result.total_bytes == 3 * len(SQL)


def test_the_target_holds_the_files_and_the_manifest_and_nothing_else_is_left(
    storage: SyncStorage,
) -> None:
    storage.put("in.zip", build(Item(b"a.sql")))
    result = expand(storage)
    assert storage.list() == ["in.zip", "out/here/files/000001.sql", "out/here/manifest.json"]
    manifest = json.loads(storage.get("out/here/manifest.json"))
    assert manifest == {"task_id": TASK, "result": result.model_dump(mode="json")}


def test_bad_members_are_reported_and_the_good_ones_expanded(storage: SyncStorage) -> None:
    link = Item(b"link", data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    items = [Item(b"good.sql"), Item(b"../../evil.sql"), link, Item(b".hidden")]
    storage.put("in.zip", build(*items))
    result = expand(storage)
    assert result.outcome == "partial"
    assert [file.name for file in result.files] == ["good.sql"]
    assert [(bad.name, bad.reason_code) for bad in result.rejected] == [
        ("../../evil.sql", "NAME_TRAVERSAL"),
        ("link", "SYMLINK"),
    ]
    assert (result.rejected_count, result.skipped_count) == (2, 1)
    assert result.skipped[0].name == ".hidden"


def test_lists_of_bad_members_are_cut_and_counted(storage: SyncStorage) -> None:
    bad = [Item(b"../%d" % number) for number in range(5)]
    hidden = [Item(b".%d" % number) for number in range(5)]
    storage.put("in.zip", build(Item(b"good.sql"), *bad, *hidden))
    result = expand(storage, settings=ArchiveSettings(max_reported=2))
    assert (len(result.rejected), result.rejected_count) == (2, 5)
    assert (len(result.skipped), result.skipped_count) == (2, 5)


@pytest.mark.parametrize(
    "data",
    [b"", b"not a zip", build(Item(b"../evil.sql")), build(Item(b"a.sql"))[:-1]],
    ids=["empty", "text", "slip", "cut"],
)
def test_a_refused_archive_leaves_nothing(storage: SyncStorage, data: bytes) -> None:
    storage.put("in.zip", data)
    with pytest.raises(ArchiveUnusable) as failed:
        expand(storage)
    assert isinstance(failed.value, Fatal)
    assert str(failed.value).endswith(".")
    assert storage.list() == ["in.zip"]


def test_limits_come_from_the_settings(storage: SyncStorage) -> None:
    storage.put("in.zip", build(Item(b"a.sql"), Item(b"b.sql")))
    with pytest.raises(ArchiveUnusable, match="more than 1 entries"):
        expand(storage, settings=ArchiveSettings(max_files=1))
    limits = ArchiveSettings(max_archive_mb=2, max_file_mb=3, max_total_mb=512).zip_limits()
    assert limits.max_archive_bytes == 2 << 20
    assert limits.max_member_bytes == 3 << 20
    assert limits.max_total_bytes == 512 << 20
    assert limits.max_cpu_seconds == 8


def test_a_missing_source_is_final(storage: SyncStorage) -> None:
    with pytest.raises(ArchiveMissing, match=r"in\.zip"):
        expand(storage)
    assert storage.list() == []


def test_a_folder_with_files_is_never_touched(storage: SyncStorage) -> None:
    storage.put("in.zip", build(Item(b"a.sql")))
    storage.put("out/here/mine", b"x")
    steps: list[int] = []
    with pytest.raises(TargetTaken):
        expand(storage, progress=lambda current, total: steps.append(current))
    assert storage.list() == ["in.zip", "out/here/mine"]
    assert steps == []


def test_another_tasks_folder_is_never_touched(storage: SyncStorage) -> None:
    storage.put("in.zip", build(Item(b"a.sql")))
    expand(storage, task_id=OTHER_TASK)
    before = {key: storage.get(key) for key in storage.list()}
    with pytest.raises(TargetTaken):
        expand(storage)
    assert {key: storage.get(key) for key in storage.list()} == before


def test_a_second_attempt_returns_the_first_result_even_without_the_source(
    storage: SyncStorage,
) -> None:
    storage.put("in.zip", build(Item(b"a.sql")))
    first = expand(storage)
    storage.delete("in.zip")
    assert expand(storage, attempt=2) == first


def test_what_a_killed_attempt_left_is_removed(storage: SyncStorage) -> None:
    storage.put("in.zip", build(Item(b"a.sql")))
    storage.put(f"tmp/archive/{TASK}/1/files/000009.sql", b"half of it")
    storage.put(f"tmp/archive/{OTHER_TASK}/1/files/000001.sql", b"not ours")
    expand(storage, attempt=2)
    assert storage.list("tmp") == [f"tmp/archive/{OTHER_TASK}/1/files/000001.sql"]
    assert storage.list("out/here/files") == ["out/here/files/000001.sql"]


def test_an_attempt_that_is_stopped_leaves_nothing(storage: SyncStorage) -> None:
    storage.put("in.zip", build(*(Item(b"%d.sql" % number) for number in range(5))))

    def stop(current: int, total: int) -> None:
        assert total == 5
        if current == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expand(storage, progress=stop)
    assert storage.list() == ["in.zip"]
    assert len(expand(storage, attempt=2).files) == 5


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_two_attempts_at_once_give_one_whole_result(storage: SyncStorage, moment: int) -> None:
    storage.put("in.zip", build(*(Item(b"%d.sql" % number) for number in range(5))))
    results: list[ExpandedArchive] = []

    def overtaken(current: int, total: int) -> None:
        if current == moment:
            results.append(expand(storage, attempt=2))

    assert expand(storage, progress=overtaken) == results[0]
    names = [f"out/here/files/{number:06d}.sql" for number in range(1, 6)]
    assert storage.list() == ["in.zip", *names, "out/here/manifest.json"]


@pytest.mark.parametrize("moment", [1, 3, 5])
def test_an_attempt_that_is_overtaken_never_publishes_a_part(
    storage: SyncStorage, moment: int
) -> None:
    storage.put("in.zip", build(*(Item(b"%d.sql" % number) for number in range(5))))

    def stop(current: int, total: int) -> None:
        raise KeyboardInterrupt

    def overtaken(current: int, total: int) -> None:
        if current == moment:
            with pytest.raises(KeyboardInterrupt):
                expand(storage, attempt=2, progress=stop)

    with pytest.raises(Retry):
        expand(storage, progress=overtaken)
    assert storage.list() == ["in.zip"]
    assert len(expand(storage, attempt=3).files) == 5


def test_a_target_that_is_taken_at_the_last_moment_is_not_touched(storage: SyncStorage) -> None:
    storage.put("in.zip", build(Item(b"a.sql")))

    def take(current: int, total: int) -> None:
        storage.put("out/here/mine", b"x")

    with pytest.raises(TargetTaken):
        expand(storage, progress=take)
    assert storage.list() == ["in.zip", "out/here/mine"]


class Full(MemoryStorage):
    """A storage that is full from its second new file on, and cannot clean up either."""

    broken = False

    def put_stream(
        self,
        key: str,
        chunks: Iterable[bytes],
        *,
        create_only: bool = False,
        max_bytes: int | None = None,
    ) -> int:
        self.broken = key.endswith("2.sql")
        if self.broken:
            raise StorageUnavailable("full")
        return super().put_stream(key, chunks, create_only=create_only, max_bytes=max_bytes)

    def delete_prefix(self, prefix: str) -> None:
        if self.broken:
            raise StorageUnavailable("failing")
        super().delete_prefix(prefix)


def test_a_failing_storage_is_retried_and_not_final() -> None:
    storage = Full()
    storage.put("in.zip", build(Item(b"1.sql"), Item(b"2.sql")))
    with pytest.raises(StorageUnavailable, match="full"):
        expand(storage)
    assert storage.list("out") == []


def test_a_nested_archive_stays_an_archive(storage: SyncStorage) -> None:
    inner = build(Item(b"../evil.sql"))
    storage.put("in.zip", build(Item(b"inner.zip", data=inner)))
    result = expand(storage)
    assert [file.key for file in result.files] == ["out/here/files/000001.zip"]
    assert storage.get(result.files[0].key) == inner
