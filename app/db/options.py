"""What the engines need to know of one database; `DatabaseSettings` offers it."""

from typing import Protocol

from pydantic import SecretStr

GRACE_SECONDS = 1.0
"""The client waits this much longer than the server's limit: the server's own error is clearer."""


class DatabaseOptions(Protocol):
    """One entry under ``databases`` in the settings."""

    @property
    def url(self) -> SecretStr: ...
    @property
    def pool_size(self) -> int: ...
    @property
    def max_overflow(self) -> int: ...
    @property
    def pool_timeout_seconds(self) -> float: ...
    @property
    def connect_timeout_seconds(self) -> float: ...
    @property
    def statement_timeout_seconds(self) -> float: ...
    @property
    def echo(self) -> bool: ...


def silence_seconds(options: DatabaseOptions) -> float:
    """Return how long the client waits for a server that says nothing."""
    return options.statement_timeout_seconds + GRACE_SECONDS
