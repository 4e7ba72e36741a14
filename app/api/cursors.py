"""Cursors are tied to the list that made them: same filters, same tenant, no letter changed."""

import base64
import hashlib

from app.tasks.errors import InvalidCursor

_SEAL_BYTES = 9


def seal_cursor(cursor: str | None, scope: object) -> str | None:
    """Return the cursor with a seal over it and the scope of its list, None at the end of a list.

    The seal has no key: what the caller may see is checked by the query itself, the
    seal only keeps a cursor from being used in another list by mistake.
    """
    return None if cursor is None else f"{cursor}.{_seal(cursor, scope)}"


def open_cursor(sealed: str | None, scope: object) -> str | None:
    """Return the cursor inside; InvalidCursor when it was changed or belongs to another list."""
    if sealed is None:
        return None
    cursor, _, seal = sealed.rpartition(".")
    if not cursor or seal != _seal(cursor, scope):
        raise InvalidCursor(
            "The cursor was not made by this list.", hint="Keep the filters, or start without one."
        )
    return cursor


def _seal(cursor: str, scope: object) -> str:
    digest = hashlib.sha256(f"{cursor}\n{scope!r}".encode()).digest()[:_SEAL_BYTES]
    return base64.urlsafe_b64encode(digest).decode()
