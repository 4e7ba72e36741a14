"""What `taskyard lint` sends: a file, an archive, or a folder's .sql files as an archive."""

import io
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.cli.failures import usage_error

MAX_FILES = 10_000
MAX_BYTES = 256 * 2**20
# The service lints longer files only when they come alone.
_MAX_MEMBER_BYTES = 256 * 1024


@dataclass(frozen=True)
class Source:
    """An upload: its name, its bytes, and what was left out, in words."""

    name: str
    data: bytes
    left_out: str = ""


def read_source(path: Path) -> Source:
    """Return the upload of a file, a ZIP archive or a folder; CommandError when it is neither."""
    if path.is_dir():
        return _pack_folder(path)
    if not path.is_file():
        raise usage_error(f"There is no file or folder '{path}'.")
    if path.suffix.lower() not in {".sql", ".zip"}:
        raise usage_error(f"'{path}' is no .sql file, no .zip archive and no folder.")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise usage_error(f"'{path}' has {size} bytes; at most {MAX_BYTES} are sent.")
    name = _shown(path, path.parent)
    # In an archive a file keeps its folders, which code hosts need to find it.
    if path.suffix.lower() == ".sql" and "/" in name and 0 < size <= _MAX_MEMBER_BYTES:
        return Source("files.zip", _pack([(name, path)]))
    return Source(path.name, path.read_bytes())


def _pack_folder(folder: Path) -> Source:
    skipped: list[str] = []
    files = []
    size = 0
    for path in _sql_files(folder, skipped):
        size += path.stat().st_size
        files.append((_shown(path, folder), path))
        if len(files) > MAX_FILES or size > MAX_BYTES:
            limits = f"{MAX_FILES} files or {MAX_BYTES // 2**20} MiB"
            raise usage_error(
                f"'{folder}' holds more than {limits} of SQL.", hint="Lint its folders one by one."
            )
    if not files:
        raise usage_error(f"'{folder}' holds no .sql file.", hint="Hidden folders are not read.")
    return Source("folder.zip", _pack(files), _told(skipped))


def _sql_files(folder: Path, skipped: list[str]) -> Iterator[Path]:
    """Yield the .sql files below a folder by name; hidden names and links are left out."""
    for place, folders, names in os.walk(folder):
        hidden = [name for name in folders if name.startswith(".")]
        skipped += hidden
        folders[:] = sorted(set(folders) - set(hidden))
        for name in sorted(names):
            path = Path(place, name)
            if not name.lower().endswith(".sql"):
                continue
            if name.startswith(".") or path.is_symlink() or not path.is_file():
                skipped.append(name)
            else:
                yield path


def _pack(files: list[tuple[str, Path]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files:
            # A fixed time: the archive depends on nothing but names and texts.
            archive.writestr(zipfile.ZipInfo(name), path.read_bytes(), zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


def _shown(path: Path, root: Path) -> str:
    """Return the path from the working folder, as an editor opens it, else from the root."""
    here = Path.cwd()
    whole = path.resolve()
    base = here if whole.is_relative_to(here) else root.resolve()
    return whole.relative_to(base).as_posix()


def _told(skipped: list[str]) -> str:
    if not skipped:
        return ""
    some = ", ".join(sorted(set(skipped))[:5])
    return f"not read, because hidden or links: {len(skipped)} ({some})"
