"""Scopes and the roles that bundle them.

A scope is ``area:action``, or "admin", which stands for every scope there is,
those that single tasks ask for included.
"""

import re
from collections.abc import Iterable

from app.auth.errors import InvalidScope

ADMIN_SCOPE = "admin"
CLIENT_ROLE = "service"
"""What a service client has in place of a role; its scopes are its own."""

VIEWER = frozenset({"tasks:read"})
OPERATOR = VIEWER | {
    "tasks:run",
    "tasks:manage",
    "dead_letters:manage",
    "schedules:manage",
    "workflows:manage",
}
ADMIN = OPERATOR | {"users:manage", ADMIN_SCOPE}

ROLES: dict[str, frozenset[str]] = {"viewer": VIEWER, "operator": OPERATOR, "admin": ADMIN}

SCOPE_PATTERN = r"^([a-z][a-z0-9_.-]{0,62}:[a-z][a-z0-9_.-]{0,62}|admin)$"
_SCOPE = re.compile(SCOPE_PATTERN)
_MAX_SCOPES = 100


def is_scope(text: str) -> bool:
    """Return whether the text has the form of a scope."""
    return bool(_SCOPE.fullmatch(text))


def granted_scopes(role: str, extra: Iterable[str] = ()) -> frozenset[str]:
    """Return what the role gives plus what was granted beyond it; an unknown role gives nothing."""
    return ROLES.get(role, frozenset()) | frozenset(extra)


def covers(granted: frozenset[str], wanted: Iterable[str]) -> bool:
    """Return whether every wanted scope is granted."""
    return ADMIN_SCOPE in granted or granted.issuperset(wanted)


def narrow(granted: frozenset[str], requested: str | None) -> frozenset[str]:
    """Return the scopes for a token: the requested ones, or all that are granted.

    Raises InvalidScope for a scope that is malformed or not granted (RFC 6749, section 3.3).
    """
    wanted = frozenset((requested or "").split(" ")) - {""}
    if not wanted:
        return granted
    malformed = len(wanted) > _MAX_SCOPES or not all(is_scope(one) for one in wanted)
    if malformed or not covers(granted, wanted):
        raise InvalidScope
    return wanted


def still_granted(granted: frozenset[str], held: frozenset[str]) -> frozenset[str]:
    """Return those of a token's scopes that its owner has to this day."""
    return held if ADMIN_SCOPE in granted else held & granted


def scope_text(scopes: Iterable[str]) -> str:
    """Return the scopes as OAuth writes them: sorted, with one space between."""
    return " ".join(sorted(scopes))
