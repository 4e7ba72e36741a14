"""An upload's name, declared type and content have to agree."""

import pytest

from app.plugins.lint.errors import UploadEmpty, UploadTypeMismatch
from app.plugins.lint.uploads import check_sql, check_zip_start, extension_of

BOTH = frozenset({"sql", "zip"})
ZIP = b"PK\x03\x04rest"


@pytest.mark.parametrize(
    ("name", "declared", "extension"),
    [
        ("a.sql", "application/sql", "sql"),
        ("a.SQL", "text/plain; charset=utf-8", "sql"),
        ("a.sql", "application/octet-stream", "sql"),
        ("a.zip", "application/zip", "zip"),
        ("a.sql.zip", "application/x-zip-compressed", "zip"),
        (".zip", "", "zip"),
        ("../../x.zip", "", "zip"),
    ],
)
def test_names_and_types_that_agree(name: str, declared: str, extension: str) -> None:
    assert extension_of(name, declared, BOTH) == extension


@pytest.mark.parametrize(
    ("name", "declared"),
    [
        ("a.zip.exe", ""),
        ("a.sqlx", ""),
        ("sql", ""),
        ("", ""),
        ("a.zip", "application/x-msdownload"),
        ("a.zip", "text/plain"),
        ("a.sql", "application/zip"),
        ("a.sql", "image/png"),
    ],
)
def test_names_and_types_that_do_not(name: str, declared: str) -> None:
    with pytest.raises(UploadTypeMismatch):
        extension_of(name, declared, BOTH)


def test_only_allowed_types_count() -> None:
    with pytest.raises(UploadTypeMismatch, match=r"end in \.sql are"):
        extension_of("a.zip", "", frozenset({"sql"}))
    with pytest.raises(UploadTypeMismatch):
        extension_of("a.csv", "", frozenset({"csv"}))


@pytest.mark.parametrize("start", [ZIP, b"PK\x05\x06" + b"\0" * 18])
def test_the_start_of_an_archive(start: bytes) -> None:
    check_zip_start(start)


@pytest.mark.parametrize("start", [b"GIF89a", b"\x7fELF", b"\x1f\x8b\x08", b"7z\xbc\xaf", b"text"])
def test_other_content_is_no_archive(start: bytes) -> None:
    with pytest.raises(UploadTypeMismatch):
        check_zip_start(start)


def test_sql_is_text() -> None:
    check_sql(b"SELECT 1")
    check_sql("SELECT 'é'".encode("latin-1"))


@pytest.mark.parametrize("data", [ZIP, b"%PDF-1.7", b"GIF89a", b"SELECT\0", b"MZ\x90"])
def test_other_content_is_no_sql(data: bytes) -> None:
    with pytest.raises(UploadTypeMismatch):
        check_sql(data)


@pytest.mark.parametrize("data", [b"", b" \r\n\t"])
def test_nothing_is_not_sql(data: bytes) -> None:
    with pytest.raises(UploadEmpty):
        check_sql(data)
    if not data:
        with pytest.raises(UploadEmpty):
            check_zip_start(data)
