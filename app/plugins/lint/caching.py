"""Results of lints that were done before: by content, profile and engine, for every file of the
same bytes.

They lie in the shared cache, so that every worker finds them, and the most recent ones in this
process as well, for when Redis is gone. Only results that another lint would give again are kept:
documents, but no time-outs or crashes.
"""

import base64
import binascii
import hashlib
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.plugins.lint.engine import engine_facts
from app.plugins.lint.profiles import Profile
from app.plugins.lint.settings import LintSettings

# Part of every key: another number makes a newer program ignore what older ones have left.
_FORMAT = 2
_TWIN_BYTES = 8 * 1024 * 1024
_MAX_BODY_BYTES = 64 * 1024 * 1024
_FAST = 2


@dataclass(frozen=True, slots=True)
class KnownLint:
    """A result without what differs between files of one content: `body` is the document's JSON
    object but for its head, `tally` the number of findings by code.
    """

    outcome: str
    message: str | None
    violations: int
    tally: dict[str, int]
    body: bytes

    def to_cache(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        packed = base64.b64encode(zlib.compress(self.body, _FAST)).decode("ascii")
        return {
            "outcome": self.outcome,
            "message": self.message,
            "violations": self.violations,
            "tally": self.tally,
            "body": packed,
        }

    @classmethod
    def from_cache(cls, value: object) -> "KnownLint | None":
        """Return the result that `to_cache` described; None for anything else."""
        try:
            packed = base64.b64decode(value["body"], validate=True)  # type: ignore[index]  # see below
            unpacking = zlib.decompressobj()
            body = unpacking.decompress(packed, _MAX_BODY_BYTES)
            if not unpacking.eof:
                return None
            tally = {str(code): int(found) for code, found in value["tally"].items()}  # type: ignore[index]  # see below
            return cls(value["outcome"], value["message"], value["violations"], tally, body)  # type: ignore[index]  # see below
        except (TypeError, KeyError, ValueError, AttributeError, binascii.Error, zlib.error):
            return None  # What somebody else wrote there is as good as nothing.


class SharedCache(Protocol):
    """The part of `app.redis.BlockingCache` that is used here."""

    def get_many(self, keys: Sequence[str]) -> dict[str, object]:
        """Return the values of the keys that are there."""

    def set(self, key: str, value: object, ttl_seconds: float | None = None) -> bool:
        """Keep a value; return whether the store took it."""

    def get_or_load(
        self, key: str, loader: Callable[[], object], ttl_seconds: float | None = None
    ) -> object:
        """Return the value, or load it once for everybody who asks at the same time."""


class _Twin:
    """The results that this process met last, within a number of bytes. Safe in any thread."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[str, Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: str) -> Any:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key]

    def put(self, key: str, value: dict[str, Any]) -> None:
        with self._lock:
            if key in self._values or len(value["body"]) > self._max_bytes // 8:
                return
            self._values[key] = value
            self._bytes += len(value["body"])
            while self._bytes > self._max_bytes:
                _, oldest = self._values.popitem(last=False)
                self._bytes -= len(oldest["body"])

    def clear(self) -> None:
        with self._lock:
            self._values.clear()
            self._bytes = 0


_twin = _Twin(_TWIN_BYTES)


def forget_known_lints() -> None:
    """Empty this process's own part of the cache."""
    _twin.clear()


class _NotKept(Exception):
    """A lint gave no document."""


class KnownLints:
    """The cache as one attempt uses it. Blocking.

    `in_turn` is for what is small, and for files of which equal ones do not come at one moment, as
    those of an archive: nobody is told that one is being linted, which costs more than it saves.
    """

    def __init__(
        self, shared: SharedCache, settings: LintSettings, *, in_turn: bool = False
    ) -> None:
        self._shared = shared
        self._in_turn = in_turn
        self._ttl_seconds = settings.cache_seconds
        facts = engine_facts()
        conditions = (_FORMAT, facts, settings.allow_noqa, settings.max_violations)
        self._conditions = repr(conditions).encode()

    @property
    def enabled(self) -> bool:
        """Whether anything is kept at all."""
        return self._ttl_seconds > 0

    def key(self, data: bytes, profile: Profile) -> str:
        """Return the key of a file's bytes in a profile with this engine."""
        digest = hashlib.sha256(self._conditions)
        digest.update(profile.digest().encode())
        digest.update(hashlib.sha256(data).digest())
        return digest.hexdigest()

    def find(self, keys: Sequence[str]) -> dict[str, KnownLint]:
        """Return what is known of many files, by key."""
        if not self.enabled:
            return {}
        values = {key: value for key in keys if (value := _twin.get(key)) is not None}
        values |= self._shared.get_many([key for key in dict.fromkeys(keys) if key not in values])
        found = {key: KnownLint.from_cache(value) for key, value in values.items()}
        return {key: known for key, known in found.items() if known is not None}

    def find_or_lint(self, key: str, lint: Callable[[], KnownLint | None]) -> KnownLint | None:
        """Return what is known of a file, or what `lint` returns, which is kept unless None.

        While one process lints, others that want the same wait for it, for some seconds.
        """
        if not self.enabled:
            return lint()
        known = KnownLint.from_cache(_twin.get(key))
        if known is not None:
            return known
        if self._in_turn:
            return self._look_then_lint(key, lint)
        made: list[KnownLint] = []

        def load() -> object:
            fresh = lint()
            if fresh is None:
                raise _NotKept
            made.append(fresh)
            return fresh.to_cache()

        try:
            value = self._shared.get_or_load(key, load, self._ttl_seconds)
        except _NotKept:
            return None
        known = made[0] if made else KnownLint.from_cache(value)
        if known is None:
            return lint()
        if isinstance(value, dict):
            _twin.put(key, value)
        return known

    def _look_then_lint(self, key: str, lint: Callable[[], KnownLint | None]) -> KnownLint | None:
        value = self._shared.get_many([key]).get(key)
        known = KnownLint.from_cache(value)
        if known is None:
            known = lint()
            if known is None:
                return None
            value = known.to_cache()
            self._shared.set(key, value, self._ttl_seconds)
        if isinstance(value, dict):
            _twin.put(key, value)
        return known
