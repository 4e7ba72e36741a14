"""Who submits in a test."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Somebody:
    """A caller with every scope, unless `scopes` says otherwise."""

    id: str = "somebody"
    tenant: str | None = None
    scopes: frozenset[str] | None = None

    def allows(self, scope: str) -> bool:
        """Return whether the caller holds the scope."""
        return self.scopes is None or scope in self.scopes
