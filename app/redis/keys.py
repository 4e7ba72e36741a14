"""Keys in the store: `<root>:<kind>:<namespace>:v<version>:<key>`, without collisions."""

import hashlib
import re
from dataclasses import dataclass

from app.common.errors import ConfigurationError

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_PLAIN_KEY = re.compile(r"[!-~][ -~]*")
_MAX_PLAIN_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Namespace:
    """Where a client's keys live; no part can hold a colon, so no two namespaces meet."""

    root: str
    path: str = "-"
    version: int = 1

    def __post_init__(self) -> None:
        """Refuse a root that would mix with others' keys (ConfigurationError)."""
        if not _NAME.fullmatch(self.root):
            raise ConfigurationError(
                "redis.namespace must be 1 to 64 letters, digits, '_', '.' or '-'."
            )

    def child(self, name: str, version: int) -> "Namespace":
        """Return a namespace below this one; ValueError for a bad name or version."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"'{name}' is no namespace: letters, digits, '_', '.' and '-' only.")
        if version < 1:
            raise ValueError("A namespace's version starts at 1.")
        parent = "" if self.path == "-" else f"{self.path}/v{self.version}/"
        return Namespace(self.root, parent + name, version)

    def value(self, key: str) -> str:
        """Return the store's key of a value."""
        return self._key("c", key)

    def lock(self, key: str) -> str:
        """Return the store's key of the lock of one value's loading."""
        return self._key("l", key)

    def _key(self, kind: str, key: str) -> str:
        return f"{self.root}:{kind}:{self.path}:v{self.version}:{_readable(key)}"


def _readable(key: str) -> str:
    # Long and odd keys are hashed. No plain key starts with a space, so none meets a hash.
    if len(key) <= _MAX_PLAIN_LENGTH and _PLAIN_KEY.fullmatch(key):
        return key
    return f" {hashlib.sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"
