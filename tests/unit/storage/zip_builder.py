"""Archives made by hand, so that every field can lie."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SQL = b"SELECT id FROM users;\n"
STORED, DEFLATED = 0, 8
UTF8, DESCRIPTOR = 1 << 11, 1 << 3


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@dataclass
class Item:
    """One member. `local` and `central` override single fields of its two headers."""

    name: bytes = b"good.sql"
    data: bytes = SQL
    method: int = DEFLATED
    flags: int = 0
    mode: int = 0o100644
    packed: bytes | None = None
    extra: bytes = b""
    local: dict[str, Any] = field(default_factory=dict)
    central: dict[str, Any] = field(default_factory=dict)
    before: bytes = b""
    after: bytes = b""

    def fields(self, override: dict[str, Any]) -> dict[str, Any]:
        packed = self.packed_data()
        values = {
            "signature": b"PK\x03\x04",
            "flags": self.flags,
            "method": self.method,
            "crc": zlib.crc32(self.data),
            "packed": len(packed),
            "size": len(self.data),
            "name": self.name,
            "extra": self.extra,
            "comment": b"",
            "disk": 0,
            "attributes": self.mode << 16,
        }
        return {**values, **override}

    def packed_data(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == DEFLATED else self.data


def local_header(item: Item) -> bytes:
    v = item.fields(item.local)
    texts: bytes = v["name"] + v["extra"]
    name_length = v.get("name_length", len(v["name"]))
    extra_length = v.get("extra_length", len(v["extra"]))
    return (
        struct.pack(
            "<4s5H3L2H",
            v["signature"],
            20,
            v["flags"],
            v["method"],
            0,
            0x21,
            v["crc"],
            v["packed"],
            v["size"],
            name_length,
            extra_length,
        )
        + texts
    )


def central_header(item: Item, offset: int) -> bytes:
    v = item.fields({"signature": b"PK\x01\x02", **item.central})
    texts: bytes = v["name"] + v["extra"] + v["comment"]
    name_length = v.get("name_length", len(v["name"]))
    extra_length = v.get("extra_length", len(v["extra"]))
    comment_length = v.get("comment_length", len(v["comment"]))
    return (
        struct.pack(
            "<4s6H3L5H2L",
            v["signature"],
            (3 << 8) | 20,
            20,
            v["flags"],
            v["method"],
            0,
            0x21,
            v["crc"],
            v["packed"],
            v["size"],
            name_length,
            extra_length,
            comment_length,
            v["disk"],
            0,
            v["attributes"],
            v.get("offset", offset),
        )
        + texts
    )


def end_record(
    count: int,
    size: int,
    start: int,
    *,
    comment: bytes = b"",
    lies: dict[str, int] | None = None,
) -> bytes:
    values = {"count": count, "here": count, "size": size, "start": start, **(lies or {})}
    return (
        struct.pack(
            "<4s4H2LH",
            b"PK\x05\x06",
            values.get("disk", 0),
            values.get("start_disk", 0),
            values["here"],
            values["count"],
            values["size"],
            values["start"],
            values.get("comment_length", len(comment)),
        )
        + comment
    )


def end64_records(count: int, size: int, start: int, at: int, lies: dict[str, int]) -> bytes:
    record = struct.pack(
        "<4sQ2H2L4Q",
        b"PK\x06\x06",
        lies.get("rest", 44),
        45,
        45,
        lies.get("disk64", 0),
        0,
        lies.get("here64", count),
        lies.get("count64", count),
        lies.get("size64", size),
        lies.get("start64", start),
    )
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, lies.get("at64", at), lies.get("disks", 1))
    return record + locator


def build(
    *items: Item,
    prefix: bytes = b"",
    before_directory: bytes = b"",
    after_directory: bytes = b"",
    suffix: bytes = b"",
    comment: bytes = b"",
    zip64: bool = False,
    **lies: int,
) -> bytes:
    """Return an archive; keyword arguments lie about the end records."""
    body = bytearray(prefix)
    offsets = []
    for item in items:
        body += item.before
        offsets.append(len(body))
        body += local_header(item) + item.packed_data() + item.after
    body += before_directory
    start = len(body)
    for item, offset in zip(items, offsets, strict=True):
        body += central_header(item, offset)
    size = len(body) - start
    body += after_directory
    if zip64:
        body += end64_records(len(items), size, start, len(body), lies)
        lies = {"here": 0xFFFF, "count": 0xFFFF, "size": 0xFFFFFFFF, "start": 0xFFFFFFFF, **lies}
    return bytes(body) + end_record(len(items), size, start, comment=comment, lies=lies) + suffix


def extra_field(kind: int, data: bytes) -> bytes:
    return struct.pack("<HH", kind, len(data)) + data


def with_descriptor(item: Item, *, width: int = 4, signed: bool = True, **lies: int) -> Item:
    """Return the item with its sizes behind its data, as a packer that streams writes it."""
    crc = lies.get("crc", zlib.crc32(item.data))
    packed = lies.get("packed", len(item.packed_data()))
    size = lies.get("size", len(item.data))
    layout = "<3L" if width == 4 else "<LQQ"
    item.flags |= DESCRIPTOR
    item.local = {"crc": 0, "packed": 0, "size": 0, **item.local}
    item.after = (b"PK\x07\x08" if signed else b"") + struct.pack(layout, crc, packed, size)
    return item


GOOD = Item()


def beside_good(*bad: Item) -> Sequence[Item]:
    """Return the bad members between two good ones."""
    return [Item(b"first.sql"), *bad, Item(b"last.sql")]
