"""Random bytes for names, drawn in blocks: asking the kernel each time costs more than an id.

Names only: what must not be guessed comes from `secrets`, so that no copy of it lies in a block.
"""

import os
import threading
from typing import Final

_BLOCK_BYTES: Final = 4096


class RandomStock:
    """Hands out each byte of its block once, whatever the thread; a fork begins a new block."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Forget the block, and the lock with whoever holds it."""
        self._lock = threading.Lock()
        self._block = b""
        self._used = 0

    def draw(self, count: int) -> bytes:
        """Return so many random bytes, at most a block."""
        with self._lock:
            if self._used + count > len(self._block):
                self._block = os.urandom(_BLOCK_BYTES)
                self._used = 0
            drawn = self._block[self._used : self._used + count]
            self._used += count
            return drawn


_stock: Final = RandomStock()
os.register_at_fork(after_in_child=_stock.renew)
random_bytes: Final = _stock.draw
