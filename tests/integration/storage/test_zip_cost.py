"""What a hostile archive may cost: memory is measured in a fresh process, over its own peak."""

import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from tests.unit.storage.zip_builder import UTF8, Item, build, deflate

MIB = 1 << 20
MEASURE = """
import resource, sys
from pathlib import Path
from app.storage.safe_zip import ArchiveRefused, ZipLimits, read_archive
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
try:
    # Memory is the question here, not how slow the machine is.
    with read_archive(Path(sys.argv[1]), ZipLimits(max_cpu_seconds=60)) as report:
        outcome = f"{report.outcome}:{len(report.members)}"
        for member in report.members:
            for chunk in member.chunks():
                pass
except ArchiveRefused as error:
    outcome = error.reason_code
    if error.rejected:
        outcome += ":" + error.rejected[0].reason_code
print(outcome, peak() - before)
"""


def measured(path: Path) -> tuple[str, int]:
    """Return the outcome and the growth of the peak memory in MiB."""
    command = [sys.executable, "-c", MEASURE, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    outcome, growth = done.stdout.split()
    return outcome, int(growth)


def empty_blocks(path: Path) -> None:
    """60 MB of deflate blocks that hold nothing."""
    packed = b"\x00\x00\x00\xff\xff" * (12 * MIB) + b"\x03\x00"
    path.write_bytes(build(Item(b"a.sql", data=b"", packed=packed)))


def long_names(path: Path) -> None:
    """10,000 names of 1,000 bytes, 31 folders deep."""
    stem = "/".join(["\U0001f600" * 7] * 31)
    items = [
        Item(f"{stem}/{number:05d}".encode(), data=b"", flags=UTF8, method=0)
        for number in range(10_000)
    ]
    path.write_bytes(build(*items))


def honest_and_large(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}.sql", b"SELECT 1 FROM a_table;\n" * (2 * MIB))


def one_large_stored(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.bin", bytes(60 * MIB))


def bomb_that_declares_little(path: Path) -> None:
    item = Item(b"a.sql", data=b"x" * 100, packed=deflate(b"x" * 100 + bytes(200 * MIB)))
    path.write_bytes(build(item))


def bomb_that_declares_all(path: Path) -> None:
    packed = deflate(bytes(250 * MIB))
    size = {"size": 250 * MIB, "crc": zlib.crc32(bytes(250 * MIB))}
    path.write_bytes(build(Item(b"a.sql", data=b"", packed=packed, local=size, central=size)))


def many_bombs(path: Path) -> None:
    packed = deflate(bytes(10 * MIB))
    size = {"size": 10 * MIB}
    items = [
        Item(b"%d.sql" % number, data=b"", packed=packed, local=size, central=size)
        for number in range(500)
    ]
    path.write_bytes(build(*items))


def shared_data(path: Path) -> None:
    """Every entry names the same member: 10,000 times 10 MiB out of a few hundred kB."""
    item = Item(b"a", data=b"", packed=deflate(bytes(10 * MIB)))
    first = build(item)
    entry = first[-22 - 47 : -22]
    body = first[: -22 - 47]
    directory = entry * 10_000
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 10_000, 10_000, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)


def bad_names(path: Path) -> None:
    items = [Item(b"../" * 300 + b"%d" % number, data=b"", method=0) for number in range(9_000)]
    path.write_bytes(build(*items))


CASES = {
    "empty blocks": (empty_blocks, "NO_USABLE_MEMBERS:SIZE_MISMATCH"),
    "long names": (long_names, "accepted:10000"),
    "honest and large": (honest_and_large, "accepted:4"),
    "one large stored": (one_large_stored, "accepted:1"),
    "bomb that declares little": (bomb_that_declares_little, "NO_USABLE_MEMBERS:SIZE_MISMATCH"),
    "bomb that declares all": (bomb_that_declares_all, "NO_USABLE_MEMBERS:MEMBER_TOO_LARGE"),
    "many bombs": (many_bombs, "TOTAL_SIZE_TOO_LARGE"),
    "shared data": (shared_data, "MEMBERS_OVERLAP"),
    "bad names": (bad_names, "NO_USABLE_MEMBERS:NAME_TRAVERSAL"),
}


@pytest.mark.parametrize(("make", "expected"), CASES.values(), ids=CASES.keys())
def test_memory_stays_flat(make: object, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "archive.zip"
    assert callable(make)
    make(path)
    outcome, growth_mib = measured(path)
    assert outcome == expected
    assert growth_mib < 64
