"""The SQL files that are linted: picked from a folder, as a folder for the CLI and as a ZIP."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

# SQLFluff's command line passes over larger files without a word in its output.
MAX_BYTES = 20_000


@dataclass(frozen=True)
class Corpus:
    """Texts by the name that they have in the folder and in the archive."""

    texts: dict[str, bytes]

    def marked(self, mark: str) -> "Corpus":
        """Return the same files with one comment more, so that no cache knows them."""
        ending = f"-- {mark}\n".encode()
        return Corpus({name: _with(data, ending) for name, data in self.texts.items()})

    def write(self, folder: Path) -> Path:
        """Write the files into a new folder and return it."""
        folder.mkdir(parents=True)
        for name, data in self.texts.items():
            (folder / name).write_bytes(data)
        return folder

    def archive(self) -> bytes:
        """Return the files as a ZIP."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in self.texts.items():
                archive.writestr(name, data)
        return buffer.getvalue()

    @property
    def kilobytes(self) -> float:
        return sum(map(len, self.texts.values())) / 1024


def pick(folder: Path, count: int, max_bytes: int = MAX_BYTES) -> Corpus:
    """Return `count` different UTF-8 files below the folder, in an order that does not depend on
    the place; when there are fewer, the first ones come again with a comment more.
    """
    found: dict[str, bytes] = {}
    for path in sorted(folder.rglob("*.sql")):
        data = path.read_bytes()
        if 0 < len(data) <= min(max_bytes, MAX_BYTES - 100) and _is_utf8(data):
            found.setdefault(hashlib.sha256(data).hexdigest(), data)
    if not found:
        raise SystemExit(f"There is no .sql file of at most {max_bytes} bytes below {folder}.")
    different = [found[key] for key in sorted(found)]
    texts: dict[str, bytes] = {}
    for number in range(count):
        turn, place = divmod(number, len(different))
        data = different[place]
        texts[f"{number:05d}.sql"] = _with(data, f"-- again {turn}\n".encode()) if turn else data
    return Corpus(texts)


def _with(data: bytes, ending: bytes) -> bytes:
    return data + (b"" if data.endswith(b"\n") else b"\n") + ending


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
