"""Is an upload what its name says? Name, declared type and content have to agree."""

from app.plugins.lint.decoding import NotTextError, decode
from app.plugins.lint.errors import UploadEmpty, UploadTypeMismatch

_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
# Beginnings of files that are no text, or text of another kind, whatever their bytes decode to.
_FOREIGN_STARTS = (
    *(b"PK", b"\x7fELF", b"MZ", b"\x1f\x8b", b"BZh", b"7z\xbc\xaf", b"\xfd7zXZ", b"Rar!"),
    *(b"GIF8", b"\x89PNG", b"\xff\xd8\xff", b"%PDF", b"\xca\xfe\xba\xbe", b"SQLite format 3"),
)
_UNDECLARED = frozenset({"", "application/octet-stream", "binary/octet-stream"})
_ZIP_TYPES = frozenset(
    {"application/zip", "application/x-zip-compressed", "application/x-zip", "multipart/x-zip"}
)
_SQL_TYPES = frozenset({"application/sql", "application/x-sql"})


def extension_of(file_name: str, declared_type: str, allowed: frozenset[str]) -> str:
    """Return "sql" or "zip"; UploadTypeMismatch for another name, or a type that contradicts it."""
    extension = file_name.rpartition(".")[2].lower() if "." in file_name else ""
    if extension not in allowed or extension not in {"sql", "zip"}:
        names = " and ".join(f".{name}" for name in sorted(allowed & {"sql", "zip"}))
        message = f"Only files whose names end in {names} are accepted."
        raise UploadTypeMismatch(message)
    declared = declared_type.partition(";")[0].strip().lower()
    fits = declared in _ZIP_TYPES if extension == "zip" else _is_sql_type(declared)
    if not fits and declared not in _UNDECLARED:
        message = f"A .{extension} file was announced as '{declared[:100]}'."
        raise UploadTypeMismatch(message)
    return extension


def check_zip_start(start: bytes) -> None:
    """Raise unless these first bytes can begin a ZIP archive."""
    if not start:
        raise UploadEmpty("The uploaded file is empty.")
    if not start.startswith(_ZIP_STARTS):
        message = "The file is named .zip but is not a ZIP archive."
        raise UploadTypeMismatch(message)


def check_sql(data: bytes) -> None:
    """Raise unless these bytes are text that can be SQL."""
    if not data.strip():
        raise UploadEmpty("The uploaded file is empty.")
    if data.startswith(_FOREIGN_STARTS):
        message = "The file is named .sql but its content is of another type."
        raise UploadTypeMismatch(message)
    try:
        decode(data)
    except NotTextError as error:
        message = f"The file is named .sql but is no text. {error}"
        raise UploadTypeMismatch(message) from None


def _is_sql_type(declared: str) -> bool:
    return declared in _SQL_TYPES or declared.startswith("text/")
