"""The caller of a request, whoever it is."""

from dataclasses import dataclass
from typing import Literal

from app.auth.scopes import ADMIN_SCOPE

Kind = Literal["user", "client"]


@dataclass(frozen=True)
class Principal:
    """A user or a service client with the scopes that this token gives it."""

    id: str
    name: str
    kind: Kind
    role: str
    scopes: frozenset[str]
    tenant: str | None = None
    version: int = 1

    def allows(self, scope: str) -> bool:
        """Return whether the caller holds the scope; "admin" stands for every scope."""
        return ADMIN_SCOPE in self.scopes or scope in self.scopes
