"""Archives whose structure is in doubt are refused as a whole, with the reason."""

import io
import struct
import tarfile
import zipfile

import pytest

from app.storage.safe_zip import ArchiveRefused, ZipLimits, read_archive
from tests.unit.storage.zip_builder import (
    GOOD,
    SQL,
    STORED,
    Item,
    build,
    central_header,
    deflate,
    end_record,
    extra_field,
    local_header,
    with_descriptor,
)

ONE = build(GOOD)
TWO = [Item(b"a.sql"), Item(b"b.sql")]
END = 22


def lie(where: str, **fields: object) -> bytes:
    """Return two members of which the second lies in one of its headers."""
    liar = Item(b"b.sql", method=STORED)
    setattr(liar, where, fields)
    return build(Item(b"a.sql", method=STORED), liar)


def overlap_all() -> bytes:
    """Return the quoted-overlap bomb's simplest form: many entries, one member's data."""
    body = local_header(GOOD) + GOOD.packed_data()
    names = [Item(b"good.sql") for _ in range(50)]
    directory = b"".join(central_header(item, 0) for item in names)
    return body + directory + end_record(50, len(directory), len(body))


def overlap_quoted() -> bytes:
    """Return a bomb whose first member's stored data is the second member, header and all."""
    inner = Item(b"b.sql", data=bytes(1000))
    inner_bytes = local_header(inner) + inner.packed_data()
    outer = Item(b"a.sql", data=inner_bytes, method=STORED)
    body = local_header(outer) + inner_bytes
    inner_at = len(body) - len(inner_bytes)
    directory = central_header(outer, 0) + central_header(inner, inner_at)
    return body + directory + end_record(2, len(directory), len(body))


def two_ends() -> bytes:
    """Return one file that is two archives: the comment of the first is the end of the second."""
    second_end = build(Item(b"b.sql"))
    return ONE[:-2] + struct.pack("<H", len(second_end)) + second_end


def two_ends_both_fit() -> bytes:
    inner = end_record(1, 0, 0)
    return build(GOOD, comment=b"x" * 10 + inner)


def tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.sql"))
    return buffer.getvalue()


WRONG_TYPES = {
    "empty": b"",
    "one byte": b"P",
    "text": b"SELECT 1;\n",
    "gzip": b"\x1f\x8b\x08\x00" + bytes(30),
    "7z": b"7z\xbc\xaf\x27\x1c" + bytes(30),
    "rar": b"Rar!\x1a\x07\x01\x00" + bytes(30),
    "bzip2": b"BZh91AY&SY" + bytes(30),
    "xz": b"\xfd7zXZ\x00" + bytes(30),
    "zstd": b"\x28\xb5\x2f\xfd" + bytes(30),
    "tar": tar(),
    "ELF": b"\x7fELF" + bytes(60),
    "exe": b"MZ" + bytes(60),
    "PDF": b"%PDF-1.7\n",
    "GIF": b"GIF89a" + bytes(30),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(30),
    "JPEG": b"\xff\xd8\xff\xe0" + bytes(30),
    "HTML": b"<html><script>alert(1)</script>",
    "only NULs": bytes(1000),
    "GIF before a ZIP": build(GOOD, prefix=b"GIF89a" + bytes(7)),
    "ELF before a ZIP": build(GOOD, prefix=b"\x7fELF" + bytes(60)),
    "shell before a ZIP": build(GOOD, prefix=b"#!/bin/sh\nexit 0\n"),
    "PDF before a ZIP": build(GOOD, prefix=b"%PDF-1.7\n"),
    "HTML before a ZIP": b"<html>" + ONE,
    "one byte before a ZIP": b"\x00" + ONE,
}

BROKEN: dict[str, tuple[bytes, str]] = {
    "only a local header": (local_header(GOOD), "ARCHIVE_TRUNCATED"),
    "no end record": (ONE[:-END], "ARCHIVE_TRUNCATED"),
    "signature only": (b"PK\x03\x04", "ARCHIVE_TRUNCATED"),
    "end record cut": (ONE[:-1], "END_RECORD_INVALID"),
    "end signature only": (b"PK\x05\x06", "END_RECORD_INVALID"),
    "data behind": (build(GOOD, suffix=b"x"), "END_RECORD_INVALID"),
    "script behind": (build(GOOD, suffix=b"\n#!/bin/sh\nid\n"), "END_RECORD_INVALID"),
    "comment too short": (build(GOOD, comment=b"abc", comment_length=2), "END_RECORD_INVALID"),
    "comment too long": (build(GOOD, comment=b"abc", comment_length=4), "END_RECORD_INVALID"),
    "comment of 64 kB that is not there": (
        build(GOOD, comment_length=0xFFFF),
        "END_RECORD_INVALID",
    ),
    "archive twice": (ONE + ONE, "DIRECTORY_INVALID"),
    "archive in the comment": (two_ends(), "END_RECORD_AMBIGUOUS"),
    "end record in the comment": (two_ends_both_fit(), "END_RECORD_AMBIGUOUS"),
    "end signature in the comment": (
        build(GOOD, comment=b"PK\x05\x06 harmless?"),
        "END_RECORD_AMBIGUOUS",
    ),
    "count too high": (build(*TWO, here=3, count=3), "ENTRY_COUNT_MISMATCH"),
    "count too low": (build(*TWO, here=1, count=1), "ENTRY_COUNT_MISMATCH"),
    "count zero": (build(*TWO, here=0, count=0), "ENTRY_COUNT_MISMATCH"),
    "count differs from this disk's": (build(*TWO, here=1), "ENTRY_COUNT_MISMATCH"),
    "disk 1": (build(GOOD, disk=1), "MULTI_DISK"),
    "directory on disk 1": (build(GOOD, start_disk=1), "MULTI_DISK"),
    "member on disk 1": (lie("central", disk=1), "MULTI_DISK"),
    "split marker": (b"PK\x07\x08" + ONE, "MULTI_DISK"),
    "split temporary marker": (b"PK00" + ONE, "MULTI_DISK"),
    "directory starts too early": (build(*TWO, start=0), "DIRECTORY_INVALID"),
    "directory starts too late": (build(*TWO, start=10_000), "DIRECTORY_INVALID"),
    "directory starts at 4 GB": (build(*TWO, start=0xFFFFFFFE), "DIRECTORY_INVALID"),
    "directory size zero": (build(*TWO, size=0), "DIRECTORY_INVALID"),
    "directory size one less": (build(*TWO, size=109), "DIRECTORY_INVALID"),
    "directory size 4 GB": (build(*TWO, size=0xFFFFFFFE), "DIRECTORY_INVALID"),
    "data behind the directory": (
        build(GOOD, after_directory=b"hidden"),
        "DIRECTORY_INVALID",
    ),
    "signature in the directory": (
        build(GOOD, after_directory=b"PK\x05\x05\x00\x00"),
        "DIRECTORY_INVALID",
    ),
    "entry signature": (lie("central", signature=b"PK\x01\x03"), "DIRECTORY_INVALID"),
    "entry name too long": (lie("central", name_length=5000), "DIRECTORY_INVALID"),
    "entry name too short": (lie("central", name_length=2), "ENTRY_COUNT_MISMATCH"),
    "entry extra too long": (lie("central", extra_length=40), "DIRECTORY_INVALID"),
    "entry comment too long": (lie("central", comment_length=1), "DIRECTORY_INVALID"),
    "entry comment swallows the next": (
        build(Item(b"a.sql", central={"comment_length": 51}), Item(b"b.sql")),
        "ENTRY_COUNT_MISMATCH",
    ),
    "offset beyond the end": (lie("central", offset=10_000), "OFFSET_OUT_OF_RANGE"),
    "offset 4 GB": (lie("central", offset=0xFFFFFFFE), "OFFSET_OUT_OF_RANGE"),
    "offset into the directory": (lie("central", offset=120), "OFFSET_OUT_OF_RANGE"),
    "offset one late": (lie("central", offset=58), "HIDDEN_DATA"),
    "offset of another": (lie("central", offset=0), "MEMBERS_OVERLAP"),
    "offset inside another": (lie("central", offset=20), "MEMBERS_OVERLAP"),
    "all share one member": (overlap_all(), "MEMBERS_OVERLAP"),
    "quoted overlap": (overlap_quoted(), "MEMBERS_OVERLAP"),
    "gap": (build(Item(b"a.sql"), Item(b"b.sql", before=b"hidden")), "HIDDEN_DATA"),
    "gap before the directory": (build(GOOD, before_directory=b"hidden"), "HIDDEN_DATA"),
    "hidden member": (
        build(GOOD, before_directory=local_header(Item(b"x.sql")) + deflate(SQL)),
        "HIDDEN_DATA",
    ),
    "member before the first": (
        build(GOOD, prefix=local_header(Item(b"x.sql")) + deflate(SQL)),
        "HIDDEN_DATA",
    ),
    "no entries but data": (build(prefix=b"PK\x03\x04" + bytes(40)), "HIDDEN_DATA"),
    "local signature": (lie("local", signature=b"PK\x03\x05"), "LOCAL_HEADER_MISMATCH"),
    "local name": (lie("local", name=b"c.sql"), "LOCAL_HEADER_MISMATCH"),
    "local name longer": (lie("local", name=b"b.sql.exe"), "LOCAL_HEADER_MISMATCH"),
    "local name slips": (lie("local", name=b"../.."), "LOCAL_HEADER_MISMATCH"),
    "local name length": (lie("local", name_length=4), "LOCAL_HEADER_MISMATCH"),
    "local name length 64 kB": (lie("local", name_length=0xFFFF), "OFFSET_OUT_OF_RANGE"),
    "local extra length": (lie("local", extra_length=0xFFFF), "OFFSET_OUT_OF_RANGE"),
    "local method": (lie("local", method=8), "LOCAL_HEADER_MISMATCH"),
    "local encrypted": (lie("local", flags=1), "LOCAL_HEADER_MISMATCH"),
    "local UTF-8": (lie("local", flags=1 << 11), "LOCAL_HEADER_MISMATCH"),
    "local CRC": (lie("local", crc=1), "LOCAL_HEADER_MISMATCH"),
    "local size": (lie("local", size=1), "LOCAL_HEADER_MISMATCH"),
    "local packed size": (lie("local", packed=1), "LOCAL_HEADER_MISMATCH"),
    "packed size one more": (
        build(GOOD, Item(b"b.sql", central={"packed": 25}, local={"packed": 25})),
        "OFFSET_OUT_OF_RANGE",
    ),
    "packed size over the next": (
        build(Item(b"b.sql", central={"packed": 40}, local={"packed": 40}), GOOD),
        "MEMBERS_OVERLAP",
    ),
    "packed size one less": (
        build(Item(b"b.sql", central={"packed": 20}, local={"packed": 20}), GOOD),
        "HIDDEN_DATA",
    ),
    "packed size 4 GB": (
        build(Item(b"b.sql", central={"packed": 0xFFFFFFFE}, local={"packed": 0xFFFFFFFE})),
        "OFFSET_OUT_OF_RANGE",
    ),
    "descriptor lies about the CRC": (
        build(with_descriptor(Item(), crc=1)),
        "LOCAL_HEADER_MISMATCH",
    ),
    "descriptor lies about the size": (
        build(with_descriptor(Item(), size=1)),
        "LOCAL_HEADER_MISMATCH",
    ),
    "descriptor is missing": (
        build(Item(b"a.sql", flags=8, local={"crc": 0, "packed": 0, "size": 0})),
        "HIDDEN_DATA",
    ),
    "descriptor with another signature": (
        build(
            Item(b"a.sql", flags=8, local={"crc": 0, "packed": 0, "size": 0}, after=bytes(16)),
        ),
        "HIDDEN_DATA",
    ),
    "descriptor of no known length": (
        build(Item(b"a.sql", flags=8, after=bytes(13))),
        "HIDDEN_DATA",
    ),
    "extra field too long": (
        build(Item(b"a.sql", extra=struct.pack("<HH", 1, 100))),
        "EXTRA_FIELD_INVALID",
    ),
    "extra field cut": (build(Item(b"a.sql", extra=b"\x01\x00\x01")), "EXTRA_FIELD_INVALID"),
    "local extra field too long": (
        lie("local", extra=struct.pack("<HH", 0xCAFE, 9)),
        "EXTRA_FIELD_INVALID",
    ),
    "ZIP64 field twice": (
        build(Item(b"a.sql", extra=extra_field(1, bytes(8)) * 2)),
        "EXTRA_FIELD_INVALID",
    ),
    "ZIP64 size is missing": (
        build(Item(b"a.sql", central={"size": 0xFFFFFFFF})),
        "ZIP64_INVALID",
    ),
    "ZIP64 offset is missing": (
        build(Item(b"a.sql", central={"offset": 0xFFFFFFFF})),
        "ZIP64_INVALID",
    ),
    "ZIP64 field without need": (
        build(Item(b"a.sql", central={"extra": extra_field(1, bytes(8))})),
        "ZIP64_INVALID",
    ),
    "ZIP64 field cut": (
        build(Item(b"a.sql", central={"size": 0xFFFFFFFF, "extra": extra_field(1, bytes(7))})),
        "ZIP64_INVALID",
    ),
    "ZIP64 declares an exabyte": (
        build(
            Item(
                b"a.sql",
                central={"size": 0xFFFFFFFF, "extra": extra_field(1, struct.pack("<Q", 1 << 60))},
            )
        ),
        "LOCAL_HEADER_MISMATCH",
    ),
    "ZIP64 local field cut": (
        build(Item(b"a.sql", local={"size": 0xFFFFFFFF, "extra": extra_field(1, bytes(8))})),
        "ZIP64_INVALID",
    ),
    "ZIP64 offset lies": (
        build(
            Item(
                b"a.sql",
                central={"offset": 0xFFFFFFFF, "extra": extra_field(1, struct.pack("<Q", 1 << 62))},
            )
        ),
        "OFFSET_OUT_OF_RANGE",
    ),
    "ZIP64 end is missing": (build(GOOD, here=0xFFFF, count=0xFFFF), "ZIP64_INVALID"),
    "ZIP64 end's place lies": (build(GOOD, zip64=True, at64=0), "ZIP64_INVALID"),
    "ZIP64 end's place is beyond": (build(GOOD, zip64=True, at64=1 << 63), "ZIP64_INVALID"),
    "ZIP64 end's length lies": (build(GOOD, zip64=True, rest=45), "ZIP64_INVALID"),
    "ZIP64 end contradicts": (build(GOOD, zip64=True, count=2, here=2), "ZIP64_INVALID"),
    "ZIP64 end contradicts the start": (build(GOOD, zip64=True, start=3), "ZIP64_INVALID"),
    "ZIP64 counts differ": (build(GOOD, zip64=True, here64=2), "ENTRY_COUNT_MISMATCH"),
    "ZIP64 count lies": (
        build(GOOD, zip64=True, here64=1 << 40, count64=1 << 40),
        "TOO_MANY_MEMBERS",
    ),
    "ZIP64 directory lies": (build(GOOD, zip64=True, start64=1 << 40), "DIRECTORY_INVALID"),
    "ZIP64 on two disks": (build(GOOD, zip64=True, disks=2), "MULTI_DISK"),
    "ZIP64 on disk 1": (build(GOOD, zip64=True, disk64=1), "MULTI_DISK"),
}


@pytest.mark.parametrize("data", WRONG_TYPES.values(), ids=WRONG_TYPES.keys())
def test_what_does_not_begin_as_a_zip_is_none(data: bytes) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(data)
    assert refused.value.reason_code == "NOT_A_ZIP"
    assert refused.value.status == 422


def test_the_message_names_what_was_sent_instead() -> None:
    with pytest.raises(ArchiveRefused, match="gzip"):
        read_archive(b"\x1f\x8b" + bytes(30))
    with pytest.raises(ArchiveRefused, match="empty"):
        read_archive(b"")


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_structure_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(data)
    assert refused.value.reason_code == reason
    assert refused.value.detail.endswith((".", ";"))
    assert refused.value.rejected == ()


def test_every_cut_of_an_archive_is_refused() -> None:
    archive = build(*TWO, comment=b"a comment")
    for length in range(len(archive)):
        with pytest.raises(ArchiveRefused):
            read_archive(archive[:length])


def test_more_members_than_allowed_are_refused() -> None:
    archive = build(*(Item(b"%d.sql" % number) for number in range(11)))
    assert len(read_archive(archive, ZipLimits(max_members=11)).members) == 11
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(archive, ZipLimits(max_members=10))
    assert refused.value.reason_code == "TOO_MANY_MEMBERS"


def test_more_than_65535_members_without_zip64_are_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.sql", "x")
    one = buffer.getvalue()
    directory = one[-END - 51 : -END] * 65_537
    body = one[: -END - 51]
    data = body + directory + end_record(1, len(directory), len(body))
    with pytest.raises(ArchiveRefused):
        read_archive(data)


def test_a_directory_larger_than_its_entries_need_is_refused() -> None:
    items = [Item(b"%d.sql" % n, central={"comment": bytes(60_000)}) for n in range(20)]
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(build(*items), ZipLimits(max_members=20))
    assert refused.value.reason_code == "DIRECTORY_INVALID"


def test_an_archive_over_its_limit_is_refused_unread() -> None:
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(ONE, ZipLimits(max_archive_bytes=len(ONE) - 1))
    assert refused.value.reason_code == "ARCHIVE_TOO_LARGE"
    assert read_archive(ONE, ZipLimits(max_archive_bytes=len(ONE))).outcome == "accepted"


def test_the_sum_of_declared_sizes_is_limited() -> None:
    archive = build(*TWO)
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(archive, ZipLimits(max_total_bytes=2 * len(SQL) - 1))
    assert refused.value.reason_code == "TOTAL_SIZE_TOO_LARGE"
    assert read_archive(archive, ZipLimits(max_total_bytes=2 * len(SQL))).outcome == "accepted"


def test_an_archive_that_costs_too_much_time_is_refused() -> None:
    with pytest.raises(ArchiveRefused) as refused:
        read_archive(ONE, ZipLimits(max_cpu_seconds=-1))
    assert refused.value.reason_code == "TOO_EXPENSIVE"
