"""What honest packers write is read, whole and exactly."""

import io
import mmap
import random
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest

from app.storage.errors import StorageUnavailable
from app.storage.safe_zip import ArchiveRefused, ZipLimits, read_archive
from tests.unit.storage.zip_builder import (
    SQL,
    STORED,
    UTF8,
    Item,
    build,
    extra_field,
    with_descriptor,
)


def contents(data: Any, limits: ZipLimits | None = None) -> dict[str, bytes]:
    with read_archive(data, limits) as report:
        assert report.outcome == "accepted"
        return {member.name: member.read() for member in report.members}


class OneWay(io.RawIOBase):
    """A pipe: what is written cannot be changed any more."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.data += bytes(data)
        return len(data)


FILES = {
    "a.sql": b"SELECT 1;\n",
    "dir/b.sql": b"x" * 100_000,
    "empty.sql": b"",
    "文件.sql": "SELECT '文件'".encode(),
    "random.bin": random.Random(7).randbytes(200_000),
}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_archives_of_pythons_zipfile(method: int, level: int) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method, compresslevel=level) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert contents(buffer.getvalue()) == FILES


@pytest.mark.parametrize("wide", [False, True])
def test_archives_that_were_streamed(wide: bool) -> None:
    pipe = OneWay()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            with archive.open(name, "w", force_zip64=wide) as member:
                member.write(data)
    assert contents(bytes(pipe.data)) == FILES


def test_zip64_headers_that_were_not_needed() -> None:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w") as archive,
        archive.open("a", "w", force_zip64=True) as member,
    ):
        member.write(SQL)
    assert contents(buffer.getvalue()) == {"a": SQL}


def test_zip64_sizes_and_end_records() -> None:
    packed = Item().packed_data()
    sizes = struct.pack("<QQ", len(SQL), len(packed))
    wide = {"size": 0xFFFFFFFF, "packed": 0xFFFFFFFF, "extra": extra_field(1, sizes)}
    item = Item(b"a.sql", local=wide, central=wide)
    assert contents(build(item)) == {"a.sql": SQL}
    assert contents(build(item, zip64=True)) == {"a.sql": SQL}
    assert contents(build(item, zip64=True, count=1, here=1)) == {"a.sql": SQL}


@pytest.mark.parametrize("width", [4, 8])
@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("method", [STORED, 8])
def test_all_four_forms_of_a_descriptor(width: int, signed: bool, method: int) -> None:
    items = [
        with_descriptor(Item(name, method=method), width=width, signed=signed)
        for name in (b"a.sql", b"b.sql")
    ]
    assert contents(build(*items)) == {"a.sql": SQL, "b.sql": SQL}


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 131_072, 300_000])
def test_sizes_around_the_readers_own_pieces(size: int) -> None:
    for data in [bytes(size), random.Random(size).randbytes(size), b"ab" * (size // 2)]:
        assert contents(build(Item(b"a", data=data))) == {"a": data}
        assert contents(build(Item(b"a", data=data, method=STORED))) == {"a": data}


def test_comments_and_unknown_fields_are_no_fault() -> None:
    item = Item(b"a.sql", extra=extra_field(0x5455, b"\x03" + bytes(8)) + bytes(3))
    item.central = {"comment": b"a file's comment"}
    assert contents(build(item, comment=b"v" * 40)) == {"a.sql": SQL}


def test_an_empty_archive_has_no_members() -> None:
    assert contents(build()) == {}


def test_folders_are_counted_and_not_members() -> None:
    folder = Item(b"dir/", data=b"", method=STORED, mode=stat.S_IFDIR | 0o755)
    packed_folder = Item(b"dir/sub/", data=b"", mode=stat.S_IFDIR | 0o755)
    report = read_archive(build(folder, packed_folder, Item(b"dir/sub/a.sql")))
    assert report.directories == 2
    assert [member.name for member in report.members] == ["dir/sub/a.sql"]


def test_an_archive_inside_is_a_plain_member() -> None:
    inner = build(Item(b"inner.sql"))
    assert contents(build(Item(b"in.zip", data=inner, method=STORED), Item())) == {
        "in.zip": inner,
        "good.sql": SQL,
    }


def test_an_archive_inside_at_the_very_end_is_no_second_end_record() -> None:
    inner = build(Item(b"inner.sql"))
    assert contents(build(Item(b"in.zip", data=inner, method=STORED))) == {"in.zip": inner}


def test_what_systems_leave_behind_is_skipped() -> None:
    names = [b"__MACOSX/._a.sql", b"a/.DS_Store", b"Thumbs.db", b"a/Desktop.INI"]
    report = read_archive(build(*(Item(name) for name in names), Item()))
    assert report.outcome == "accepted"
    assert [member.name for member in report.members] == ["good.sql"]
    assert {member.reason_code for member in report.skipped} == {"SYSTEM_FILE"}


def test_hidden_files_are_skipped_unless_they_are_wanted() -> None:
    archive = build(Item(b".sqlfluff"), Item(b"a/.git/config"), Item())
    report = read_archive(archive)
    assert [member.name for member in report.skipped] == [".sqlfluff", "a/.git/config"]
    assert {member.reason_code for member in report.skipped} == {"HIDDEN_FILE"}
    assert len(contents(archive, ZipLimits(skip_hidden=False))) == 3


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>.sql",
        "'; DROP TABLE users; --.sql",
        "$(touch pwned).sql",
        "`id`.sql",
        "-rf.sql",
        "--help",
        "=cmd|' /C calc'!A0.sql",
        "@SUM(1).sql",
        "%s%n.sql",
        "{{7*7}}.sql",
        "${jndi:ldap:x}.sql",
        "a b.sql",
        "a;b&c|d.sql",
        "CON.sql",
        "a.sql.",
        "a:b.sql",
        "..a/..b.sql",
        "a...sql",
        "emoji \U0001f600.sql",
        "a%2e%2e%2fb.sql",
        "a" * 255,
        "/".join(["d"] * 31 + ["a.sql"]),
    ],
)
def test_a_name_that_only_looks_dangerous_is_text(name: str) -> None:
    limits = ZipLimits(skip_hidden=False)
    if name == "a:b.sql":
        name = "ab:b.sql"
    assert contents(build(Item(name.encode(), flags=UTF8)), limits) == {name: SQL}


def test_names_in_old_code_pages_are_stable() -> None:
    assert contents(build(Item(b"caf\x82.sql"))) == {"café.sql": SQL}
    assert contents(build(Item("naïve.sql".encode()))) == {"naïve.sql": SQL}


def test_a_second_name_in_utf8_is_the_name() -> None:
    raw = "名.sql".encode("gbk")
    wide = struct.pack("<BL", 1, zlib.crc32(raw)) + "名.sql".encode()
    assert contents(build(Item(raw, extra=extra_field(0x7075, wide)))) == {"名.sql": SQL}


def test_every_kind_of_input_reads_the_same(tmp_path: Path) -> None:
    archive = build(Item(b"a.sql"), Item(b"b.sql", method=STORED))
    path = tmp_path / "a.zip"
    path.write_bytes(archive)
    expected = {"a.sql": SQL, "b.sql": SQL}
    for data in [archive, bytearray(archive), memoryview(archive), path, io.BytesIO(archive)]:
        assert contents(data) == expected
    with path.open("rb") as file:
        assert contents(file) == expected
        assert not file.closed
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            assert contents(mapped) == expected


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ArchiveRefused):
        read_archive(tmp_path)
    with pytest.raises(StorageUnavailable):
        read_archive(tmp_path / "missing.zip")


def test_a_file_that_is_cut_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(build(Item(b"a.sql", data=random.Random(1).randbytes(500_000))))
    with read_archive(path) as report:
        chunks = report.members[0].chunks()
        next(chunks)
        with path.open("r+b") as file:
            file.truncate(1000)
        with pytest.raises(ArchiveRefused) as refused:
            list(chunks)
    assert refused.value.reason_code == "ARCHIVE_CHANGED"


def test_a_file_that_fails_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(build(Item()))
    report = read_archive(path)
    report.close()
    with pytest.raises((StorageUnavailable, ValueError)):
        report.members[0].read()
