"""Which texts are keys: plain relative paths that mean the same on every storage."""

import re
import unicodedata

from app.storage.errors import StorageKeyError

MAX_KEY_BYTES = 1024
MAX_PART_BYTES = 255
# The local adapter keeps unfinished files here, so no key may start with it.
STAGING_FOLDER = ".taskyard-staging"
_DRIVE = re.compile(r"[A-Za-z]:")
_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def check_key(key: str) -> str:
    """Return the key itself; StorageKeyError says which rule it breaks."""
    _check_characters(key)
    for part in key.split("/"):
        _check_part(part)
    return key


def check_prefix(prefix: str) -> str:
    """Return a folder's name without its closing slash, "" for the root; else StorageKeyError."""
    folder = prefix.removesuffix("/")
    return check_key(folder) if folder or prefix else ""


def _check_characters(key: str) -> None:
    if not key:
        raise StorageKeyError("A storage key must not be empty.")
    if len(key) > MAX_KEY_BYTES:
        raise StorageKeyError(f"A storage key has at most {MAX_KEY_BYTES} bytes.")
    if any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in key):
        raise StorageKeyError("A storage key must not hold control characters.")
    if len(key.encode()) > MAX_KEY_BYTES:
        raise StorageKeyError(f"A storage key has at most {MAX_KEY_BYTES} bytes.")
    if "\\" in key:
        raise StorageKeyError("A storage key has forward slashes, not backslashes.")
    if key.startswith("/") or _DRIVE.match(key):
        raise StorageKeyError("A storage key is relative to the storage root, not absolute.")
    if key.split("/", 1)[0] == STAGING_FOLDER:
        raise StorageKeyError(f"The folder '{STAGING_FOLDER}' belongs to the storage itself.")


def _check_part(part: str) -> None:
    if not part:
        raise StorageKeyError("A storage key has no empty part and no slash at its ends.")
    if part in {".", ".."}:
        raise StorageKeyError("A storage key has no '.' and no '..' part.")
    if len(part.encode()) > MAX_PART_BYTES:
        raise StorageKeyError(f"Each part of a storage key has at most {MAX_PART_BYTES} bytes.")
