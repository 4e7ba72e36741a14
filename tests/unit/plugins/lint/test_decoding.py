"""Bytes become text in a fixed order of encodings; binary files are refused."""

import codecs

import pytest

from app.plugins.lint.decoding import NotTextError, check_text, decode


def _decoded(data: bytes) -> tuple[str, str, list[str]]:
    text, encoding, notices = decode(data)
    return text, encoding, [notice.code for notice in notices]


def test_utf8_needs_no_notice() -> None:
    assert _decoded("SELECT 'größe'".encode()) == ("SELECT 'größe'", "utf-8", [])


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        (codecs.BOM_UTF8, "utf-8"),
        (codecs.BOM_UTF16_LE, "utf-16-le"),
        (codecs.BOM_UTF16_BE, "utf-16-be"),
        (codecs.BOM_UTF32_LE, "utf-32-le"),
        (codecs.BOM_UTF32_BE, "utf-32-be"),
    ],
)
def test_a_byte_order_mark_decides_and_is_removed(mark: bytes, encoding: str) -> None:
    data = mark + "SELECT 'ж'".encode(encoding)
    assert _decoded(data) == ("SELECT 'ж'", encoding, [])


@pytest.mark.parametrize(
    ("line", "encoding", "canonical"),
    [
        ("-- -*- coding: cp1251 -*-", "cp1251", "cp1251"),
        ("-- vim: set fileencoding=koi8-r :", "koi8-r", "koi8-r"),
        ("# coding=gbk", "gbk", "gbk"),
        ("/* coding: latin-1 */", "latin-1", "iso8859-1"),
    ],
)
def test_a_declared_encoding_is_used(line: str, encoding: str, canonical: str) -> None:
    letter = "é" if encoding == "latin-1" else "жж"
    text = f"-- one\n{line}\nSELECT '{letter}'\n"
    assert _decoded(text.encode(encoding)) == (text, canonical, [])


@pytest.mark.parametrize("name", ["unicode_escape", "idna", "rot13", "zlib", "no-such", "utf-7"])
def test_only_plain_encodings_can_be_declared(name: str) -> None:
    data = f"-- coding: {name}\nSELECT '".encode() + b"\xe9'\n"
    assert _decoded(data)[1:] == ("cp1252", ["ENCODING_GUESSED"])


def test_a_wrong_declaration_falls_through() -> None:
    data = b"-- coding: gbk\nSELECT '\xff\xff'\n"
    assert _decoded(data)[1] == "cp1252"


def test_a_declaration_after_the_second_line_does_not_count() -> None:
    data = b"--\n--\n-- coding: cp1251\nSELECT '\xe9'\n"
    assert "é" in _decoded(data)[0]


def test_windows_1252_is_the_last_resort_with_a_notice() -> None:
    text, encoding, notices = _decoded(b"SELECT 'caf\xe9 \x80'\n")
    assert (text, encoding, notices) == ("SELECT 'café €'\n", "cp1252", ["ENCODING_GUESSED"])


def test_bytes_that_mean_nothing_anywhere_become_a_replacement() -> None:
    assert _decoded(b"SELECT '\x81'")[0] == "SELECT '\ufffd'"


@pytest.mark.parametrize(
    "data",
    [
        b"SELECT 1\0",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
        "SELECT 1".encode("utf-16-le"),
        codecs.BOM_UTF16_LE + b"\x00\xd8",
        bytes(range(1, 32)) * 10,
    ],
)
def test_binary_is_refused(data: bytes) -> None:
    with pytest.raises(NotTextError):
        decode(data)


def test_texts_are_checked_too() -> None:
    assert check_text("SELECT 1\t\n") == "SELECT 1\t\n"
    for bad in ("a\0b", "a\ud800b"):
        with pytest.raises(NotTextError):
            check_text(bad)


def test_empty_is_text() -> None:
    assert _decoded(b"") == ("", "utf-8", [])
