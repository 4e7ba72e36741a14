"""Ids: UUID version 7 (RFC 9562) as lower-case text, so that they sort by the time they
were made.
"""

import os
import re
import threading
import time

from app.common.randomness import random_bytes

_CANONICAL = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_lock = threading.Lock()
_last_tick = 0


def new_id() -> str:
    """Return a new UUIDv7; ids made by one process are strictly increasing.

    The 12 bits behind the milliseconds hold the fraction of the millisecond
    (RFC 9562, section 6.2, method 3), and the counter never goes back.
    """
    global _last_tick  # noqa: PLW0603 - the counter is the state of the process
    now = time.time_ns()
    tick = (now // 1_000_000 << 12) | (now % 1_000_000 << 12) // 1_000_000
    with _lock:
        tick = max(tick, _last_tick + 1)
        _last_tick = tick
    random_bits = int.from_bytes(random_bytes(8), "big") & (1 << 62) - 1
    value = (tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | random_bits
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def parse_id(text: str) -> str:
    """Return the canonical form of an id.

    Only the 36-character form is an id; braces, URNs and bare hex digits raise ValueError.
    """
    canonical = text.lower()
    if not _CANONICAL.fullmatch(canonical):
        message = "an id is a UUID in its 36-character form"
        raise ValueError(message)
    return canonical


def _renew_lock_after_fork() -> None:
    global _lock  # noqa: PLW0603 - a lock held by another thread at the fork would never open
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock_after_fork)
