"""Bad members: each one is reported with its reason, and the good ones are still there."""

import stat
import struct
import zlib

import pytest

from app.storage.safe_zip import ArchiveRefused, ZipLimits, read_archive
from tests.unit.storage.zip_builder import (
    DESCRIPTOR,
    SQL,
    STORED,
    UTF8,
    Item,
    beside_good,
    build,
    deflate,
    extra_field,
)

MIB = 1 << 20


def named(name: str) -> Item:
    return Item(name.encode("utf-8"), flags=UTF8)


def unicode_path(raw: bytes, wide: bytes, *, version: int = 1, crc: int | None = None) -> bytes:
    checksum = zlib.crc32(raw) if crc is None else crc
    return extra_field(0x7075, struct.pack("<BL", version, checksum) + wide)


NAMES: dict[str, tuple[Item, str]] = {
    "slip": (named("../evil.sql"), "NAME_TRAVERSAL"),
    "slip deep": (named("a/../../evil.sql"), "NAME_TRAVERSAL"),
    "slip inside": (named("a/../b.sql"), "NAME_TRAVERSAL"),
    "slip at end": (named("a/.."), "NAME_TRAVERSAL"),
    "slip only": (named(".."), "NAME_TRAVERSAL"),
    "slip folder": (named("../"), "NAME_TRAVERSAL"),
    "slip 20 times": (named("../" * 20 + "etc/passwd"), "NAME_TRAVERSAL"),
    "absolute": (named("/etc/cron.d/evil.sql"), "NAME_ABSOLUTE"),
    "absolute twice": (named("//server/share/evil.sql"), "NAME_ABSOLUTE"),
    "root": (named("/"), "NAME_EMPTY"),
    "drive": (named("C:/Windows/evil.sql"), "NAME_DRIVE"),
    "drive relative": (named("c:evil.sql"), "NAME_DRIVE"),
    "drive backslash": (named("C:\\evil.sql"), "NAME_BACKSLASH"),
    "unc": (named("\\\\server\\share\\evil.sql"), "NAME_BACKSLASH"),
    "backslash": (named("a\\b.sql"), "NAME_BACKSLASH"),
    "backslash slip": (named("..\\..\\evil.sql"), "NAME_BACKSLASH"),
    "NUL": (named("a.sql\x00.png"), "NAME_CONTROL_CHARACTER"),
    "NUL at end": (named("a.sql\x00"), "NAME_CONTROL_CHARACTER"),
    "newline": (named("a\nb.sql"), "NAME_CONTROL_CHARACTER"),
    "carriage return": (named("a\rb.sql"), "NAME_CONTROL_CHARACTER"),
    "tab": (named("a\tb.sql"), "NAME_CONTROL_CHARACTER"),
    "ANSI": (named("\x1b[2J\x1b[31mred.sql"), "NAME_CONTROL_CHARACTER"),
    "C1 control": (named("a\x9b31m.sql"), "NAME_CONTROL_CHARACTER"),
    "delete": (named("a\x7f.sql"), "NAME_CONTROL_CHARACTER"),
    "line separator": (named("a\u2028b.sql"), "NAME_CONTROL_CHARACTER"),
    "RTL override": (named("a\u202elqs.exe"), "NAME_INVISIBLE_CHARACTER"),
    "RTL isolate": (named("a\u2067b.sql"), "NAME_INVISIBLE_CHARACTER"),
    "zero width": (named("a\u200bb.sql"), "NAME_INVISIBLE_CHARACTER"),
    "byte order mark": (named("\ufeffa.sql"), "NAME_INVISIBLE_CHARACTER"),
    "empty": (named(""), "NAME_EMPTY"),
    "dot": (named("./a.sql"), "NAME_NOT_NORMAL"),
    "dot inside": (named("a/./b.sql"), "NAME_NOT_NORMAL"),
    "empty part": (named("a//b.sql"), "NAME_NOT_NORMAL"),
    "two slashes at the end": (named("a//"), "NAME_NOT_NORMAL"),
    "too long": (named("/".join(["a" * 200] * 6) + ".sql"), "NAME_TOO_LONG"),
    "64 kB": (named("a" * 65000), "NAME_TOO_LONG"),
    "long part": (named("a" * 252 + ".sql"), "NAME_TOO_LONG"),
    "long part in bytes": (named("文" * 84 + ".sql"), "NAME_TOO_LONG"),
    "too deep": (named("a/" * 32 + "b.sql"), "NAME_TOO_DEEP"),
    "not UTF-8": (Item(b"a\xff\xfe.sql", flags=UTF8), "NAME_NOT_UTF8"),
    "overlong UTF-8 slip": (Item(b"\xc0\xae\xc0\xae/evil.sql", flags=UTF8), "NAME_NOT_UTF8"),
    "surrogate": (Item(b"\xed\xa0\x80.sql", flags=UTF8), "NAME_NOT_UTF8"),
    "second name": (
        Item(b"a.sql", extra=unicode_path(b"a.sql", b"../evil.sql")),
        "NAME_AMBIGUOUS",
    ),
    "second name is bad": (
        Item(b"\x81.sql", extra=unicode_path(b"\x81.sql", b"../evil.sql")),
        "NAME_TRAVERSAL",
    ),
    "second name of another": (
        Item(b"\x81.sql", extra=unicode_path(b"\x81.sql", b"b.sql", crc=1)),
        "NAME_AMBIGUOUS",
    ),
    "second name not UTF-8": (
        Item(b"\x81.sql", extra=unicode_path(b"\x81.sql", b"\xff")),
        "NAME_AMBIGUOUS",
    ),
    "second name unknown": (
        Item(b"a.sql", extra=unicode_path(b"a.sql", b"a.sql", version=2)),
        "NAME_AMBIGUOUS",
    ),
    "second name cut": (Item(b"a.sql", extra=extra_field(0x7075, b"\x01")), "NAME_AMBIGUOUS"),
}

TYPES: dict[str, tuple[Item, str]] = {
    "symlink out": (
        Item(b"link.sql", data=b"/etc/passwd", mode=stat.S_IFLNK | 0o777),
        "SYMLINK",
    ),
    "symlink inside": (Item(b"link.sql", data=b"first.sql", mode=stat.S_IFLNK | 0o777), "SYMLINK"),
    "symlink folder": (Item(b"link/", data=b"/etc", mode=stat.S_IFLNK | 0o777), "SYMLINK"),
    "symlink hidden": (Item(b".link", data=b"/etc", mode=stat.S_IFLNK | 0o777), "SYMLINK"),
    "fifo": (Item(b"fifo.sql", data=b"", mode=stat.S_IFIFO | 0o644), "SPECIAL_FILE"),
    "character device": (Item(b"c.sql", data=b"", mode=stat.S_IFCHR | 0o644), "SPECIAL_FILE"),
    "block device": (Item(b"b.sql", data=b"", mode=stat.S_IFBLK | 0o644), "SPECIAL_FILE"),
    "socket": (Item(b"s.sql", data=b"", mode=stat.S_IFSOCK | 0o644), "SPECIAL_FILE"),
    "setuid": (Item(b"a.sql", mode=stat.S_IFREG | 0o4755), "SETUID_MODE"),
    "setgid": (Item(b"a.sql", mode=stat.S_IFREG | 0o2755), "SETUID_MODE"),
    "folder by mode": (Item(b"a.sql", mode=stat.S_IFDIR | 0o755), "TYPE_MISMATCH"),
    "file by mode": (Item(b"a/", data=b"", mode=stat.S_IFREG | 0o644), "TYPE_MISMATCH"),
    "folder with data": (Item(b"a/", mode=stat.S_IFDIR | 0o755), "FOLDER_WITH_DATA"),
    "folder with hidden data": (
        Item(b"a/", data=b"", packed=b"\x03\x00hidden", mode=stat.S_IFDIR | 0o755),
        "FOLDER_WITH_DATA",
    ),
}

METHODS: dict[str, tuple[Item, str]] = {
    "encrypted": (Item(b"a.sql", flags=1), "ENCRYPTED"),
    "strongly encrypted": (Item(b"a.sql", flags=1 | 1 << 6), "ENCRYPTED"),
    "masked headers": (Item(b"a.sql", flags=1 << 13), "ENCRYPTED"),
    "AES": (Item(b"a.sql", method=99, packed=b"x" * 40), "ENCRYPTED"),
    "AES by its field": (Item(b"a.sql", extra=extra_field(0x9901, b"\x02\x00AE")), "ENCRYPTED"),
    "patched": (Item(b"a.sql", flags=1 << 5), "METHOD_UNSUPPORTED"),
    **{
        f"method {method}": (Item(b"a.sql", method=method, packed=SQL), "METHOD_UNSUPPORTED")
        for method in [1, 6, 7, 9, 10, 12, 14, 93, 95, 98, 0xFFFF]
    },
}


def lying(data: bytes, size: int, *, method: int = 8, packed: bytes | None = None) -> Item:
    item = Item(b"a.sql", data=data, method=method, packed=packed)
    item.local = item.central = {"size": size}
    return item


CONTENT: dict[str, tuple[Item, str]] = {
    "declares less": (lying(SQL * 10, 100), "SIZE_MISMATCH"),
    "declares nothing": (lying(SQL, 0), "SIZE_MISMATCH"),
    "declares more": (lying(SQL, 10_000), "SIZE_MISMATCH"),
    "declares one more": (lying(SQL, len(SQL) + 1), "SIZE_MISMATCH"),
    "declares one less": (lying(SQL, len(SQL) - 1), "SIZE_MISMATCH"),
    "stored lies": (lying(SQL, len(SQL) + 1, method=STORED), "SIZE_MISMATCH"),
    "declares 100 and fits the CRC": (
        Item(
            b"a.sql",
            data=b"x" * 100,
            packed=deflate(b"x" * 100 + bytes(MIB)),
        ),
        "SIZE_MISMATCH",
    ),
    "wrong CRC": (
        Item(b"a.sql", local={"crc": 1}, central={"crc": 1}),
        "CRC_MISMATCH",
    ),
    "CRC zero": (Item(b"a.sql", local={"crc": 0}, central={"crc": 0}), "CRC_MISMATCH"),
    "damaged": (Item(b"a.sql", packed=b"\xff" * 20), "DATA_CORRUPT"),
    "cut stream": (Item(b"a.sql", packed=deflate(SQL)[:-3]), "DATA_CORRUPT"),
    "empty stream": (Item(b"a.sql", data=b"", packed=b""), "DATA_CORRUPT"),
    "data behind the stream": (Item(b"a.sql", packed=deflate(SQL) + b"hidden"), "DATA_CORRUPT"),
    "data behind, next piece": (
        Item(b"a.sql", data=bytes(70_000), packed=deflate(bytes(70_000)) + b"h" * 70_000),
        "DATA_CORRUPT",
    ),
    "two streams": (Item(b"a.sql", data=SQL, packed=deflate(SQL) * 2), "DATA_CORRUPT"),
    "zlib header": (Item(b"a.sql", packed=zlib.compress(SQL)), "DATA_CORRUPT"),
    "gzip in it": (Item(b"a.sql", packed=b"\x1f\x8b\x08\x00" + deflate(SQL)), "DATA_CORRUPT"),
    "reserved block": (Item(b"a.sql", packed=b"\x07"), "DATA_CORRUPT"),
    "block bomb": (
        Item(b"a.sql", data=b"", packed=b"\x00\x00\x00\xff\xff" * 5000 + b"\x03\x00"),
        "SIZE_MISMATCH",
    ),
    "bomb ratio": (Item(b"a.sql", data=bytes(20 * MIB)), "RATIO_TOO_HIGH"),
    "bomb declares small": (
        Item(b"a.sql", data=b"x", packed=deflate(bytes(20 * MIB))),
        "SIZE_MISMATCH",
    ),
    "bomb declares 4 GB": (
        Item(
            b"a.sql",
            data=b"x",
            local={"size": 0xFFFFFFFE},
            central={"size": 0xFFFFFFFE},
        ),
        "TOTAL_SIZE_TOO_LARGE",
    ),
}

MEMBERS = {**NAMES, **TYPES, **METHODS, **CONTENT}
IN_THE_DIRECTORY = {key: case for key, case in MEMBERS.items() if case[1] != "TOTAL_SIZE_TOO_LARGE"}


@pytest.mark.parametrize(("item", "reason"), IN_THE_DIRECTORY.values(), ids=IN_THE_DIRECTORY.keys())
def test_a_bad_member_is_reported_and_the_good_ones_are_read(item: Item, reason: str) -> None:
    report = read_archive(build(*beside_good(item)))
    assert report.outcome == "partial"
    assert [(m.name, m.read()) for m in report.members] == [("first.sql", SQL), ("last.sql", SQL)]
    assert [member.reason_code for member in report.rejected] == [reason]
    assert report.rejected[0].message.endswith(".")
    assert report.rejected[0].name.isprintable()
    assert len(report.rejected[0].name) < 210


@pytest.mark.parametrize(("item", "reason"), MEMBERS.values(), ids=MEMBERS.keys())
def test_an_archive_of_one_bad_member_is_refused(item: Item, reason: str) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(build(item))
    if reason != "TOTAL_SIZE_TOO_LARGE":
        assert refused.value.reason_code == "NO_USABLE_MEMBERS"
        assert [member.reason_code for member in refused.value.rejected] == [reason]
        assert refused.value.errors[0].type == reason
        assert refused.value.rejected[0].message in refused.value.detail
    else:
        assert refused.value.reason_code == reason
    assert refused.value.detail.isprintable()


CONFLICTS: dict[str, tuple[list[bytes], list[str]]] = {
    "same name": ([b"a.sql", b"a.sql"], ["DUPLICATE_NAME"] * 2),
    "same name three times": ([b"a.sql"] * 3, ["DUPLICATE_NAME"] * 3),
    "case": ([b"A.sql", b"a.SQL"], ["NAME_CONFLICT"] * 2),
    "case of a folder": ([b"x/A.sql", b"X/a.sql"], ["NAME_CONFLICT"] * 2),
    "composition": (
        ["é.sql".encode(), "e\u0301.sql".encode()],
        ["NAME_CONFLICT"] * 2,
    ),
    "sharp s": (["straße.sql".encode(), b"STRASSE.sql"], ["NAME_CONFLICT"] * 2),
    "file and its folder": ([b"a", b"a/b.sql"], ["NAME_CONFLICT"] * 2),
    "file and its deep folder": ([b"A", b"a/b/c/d.sql"], ["NAME_CONFLICT"] * 2),
}


@pytest.mark.parametrize(("names", "reasons"), CONFLICTS.values(), ids=CONFLICTS.keys())
def test_of_names_that_conflict_none_is_taken(names: list[bytes], reasons: list[str]) -> None:
    items = [Item(name, data=name) for name in names]
    report = read_archive(build(*beside_good(*items)))
    assert [member.name for member in report.members] == ["first.sql", "last.sql"]
    assert [member.reason_code for member in report.rejected] == reasons


def test_a_file_with_the_name_of_a_folder_entry_conflicts() -> None:
    folder = Item(b"a/", data=b"", method=STORED, mode=stat.S_IFDIR | 0o755)
    report = read_archive(build(*beside_good(folder, Item(b"a"))))
    assert [member.reason_code for member in report.rejected] == ["NAME_CONFLICT"]


def test_a_file_below_a_link_is_not_taken() -> None:
    link = Item(b"dir", data=b"/etc", mode=stat.S_IFLNK | 0o777)
    report = read_archive(build(*beside_good(link, Item(b"dir/cron.sql"))))
    assert [member.reason_code for member in report.rejected] == ["SYMLINK", "NAME_CONFLICT"]


def test_a_member_over_its_limit_is_rejected_before_it_is_unpacked() -> None:
    large = Item(b"large.sql", data=bytes(range(256)) * 8)
    report = read_archive(build(*beside_good(large)), ZipLimits(max_member_bytes=2047))
    assert [member.reason_code for member in report.rejected] == ["MEMBER_TOO_LARGE"]
    limits = ZipLimits(max_member_bytes=2048)
    assert read_archive(build(*beside_good(large)), limits).outcome == "accepted"


def test_data_is_read_again_with_every_check() -> None:
    archive = bytearray(build(Item(b"a.sql", method=STORED)))
    report = read_archive(archive)
    position = archive.index(SQL)
    archive[position] ^= 1
    with pytest.raises(ArchiveRefused) as refused:
        report.members[0].read()
    assert refused.value.reason_code == "ARCHIVE_CHANGED"


def test_a_descriptor_flag_alone_changes_nothing() -> None:
    assert read_archive(build(Item(b"a.sql", flags=DESCRIPTOR))).outcome == "accepted"
