"""Whatever the bytes are, the reader answers with a report or with ArchiveRefused."""

import io
import zipfile

from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.storage.safe_zip import ArchiveRefused, ZipLimits, read_archive
from tests.unit.storage.zip_builder import STORED, UTF8, Item, build, extra_field, with_descriptor

LIMITS = ZipLimits(max_member_bytes=1 << 20, max_total_bytes=4 << 20, max_cpu_seconds=60)
SEEDS = [
    build(),
    build(Item(b"a.sql"), Item(b"b/c.sql", method=STORED), comment=b"comment"),
    build(with_descriptor(Item(b"a.sql")), with_descriptor(Item(b"b.sql"), width=8)),
    build(Item(b"a.sql"), zip64=True),
    build(Item("文.sql".encode(), flags=UTF8, extra=extra_field(0x7075, b"\x01abcdx"))),
    build(Item(b"dir/", data=b"", method=STORED, mode=0o40755), Item(b"dir/a.sql")),
]


def answer(data: bytes) -> None:
    """Read the archive and every member; only ArchiveRefused may come out."""
    try:
        report = read_archive(data, LIMITS)
    except ArchiveRefused:
        return
    for member in report.members:
        assert len(member.read()) == member.size


@settings(max_examples=400)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_changed_bytes(seed: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(seed)
    for position, value in changes:
        data[position % len(data)] = value
    answer(bytes(data))


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.data())
def test_pieces_cut_out_doubled_and_put_in(seed: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(seed)))
    stop = data.draw(st.integers(start, len(seed)))
    piece = data.draw(st.one_of(st.binary(max_size=64), st.just(seed[start:stop] * 2)))
    answer(seed[:start] + piece + seed[stop:])


@settings(max_examples=300)
@given(st.sampled_from(SEEDS), st.integers(0, 10_000), st.sampled_from([2, 4, 8]), st.data())
def test_numbers_replaced_by_extremes(
    seed: bytes, position: int, width: int, data: st.DataObject
) -> None:
    top = 1 << (8 * width)
    value = data.draw(st.sampled_from([0, 1, top - 1, top - 2, top // 2, len(seed), len(seed) - 1]))
    at = position % max(1, len(seed) - width)
    answer(seed[:at] + value.to_bytes(width, "little") + seed[at + width :])


@settings(max_examples=200)
@given(st.binary(max_size=300))
@example(b"PK\x05\x06" + bytes(18))
@example(b"PK\x05\x06" * 10 + bytes(18))
@example(b"PK\x03\x04" + bytes(26) + b"PK\x05\x06" + bytes(18))
def test_noise(noise: bytes) -> None:
    answer(noise)
    answer(b"PK\x03\x04" + noise)
    answer(b"PK\x03\x04" + noise + b"PK\x05\x06" + bytes(18))


@settings(max_examples=100)
@given(
    st.dictionaries(
        # zipfile itself cuts a name at a NUL.
        st.text(
            st.characters(codec="utf-8", exclude_characters="\0"),
            min_size=1,
            max_size=30,
        ),
        st.binary(max_size=200),
        max_size=6,
    )
)
def test_whatever_zipfile_writes_is_read_as_it_was_or_reported(files: dict[str, bytes]) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    try:
        report = read_archive(buffer.getvalue())
    except ArchiveRefused as refused:
        reasons = [refused.reason_code]
        seen = len(files)
    else:
        reasons = []
        seen = len(report.members) + len(report.rejected) + len(report.skipped)
        seen += report.directories
        assert all(files[member.name] == member.read() for member in report.members)
    assert reasons in ([], ["NO_USABLE_MEMBERS"])
    assert seen == len(files)
