"""What the engines need to know of one database; `DatabaseSettings` offers it."""

from dataclasses import dataclass
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


@dataclass(frozen=True, kw_only=True)
class FixedOptions:
    """Options as plain values."""

    url: SecretStr
    pool_size: int
    max_overflow: int
    pool_timeout_seconds: float
    connect_timeout_seconds: float
    statement_timeout_seconds: float
    echo: bool


def with_statement_timeout(options: DatabaseOptions, seconds: float) -> DatabaseOptions:
    """Return the options with another limit for one statement."""
    return FixedOptions(
        url=options.url,
        pool_size=options.pool_size,
        max_overflow=options.max_overflow,
        pool_timeout_seconds=options.pool_timeout_seconds,
        connect_timeout_seconds=options.connect_timeout_seconds,
        statement_timeout_seconds=seconds,
        echo=options.echo,
    )


def silence_seconds(options: DatabaseOptions) -> float:
    """Return how long the client waits for a server that says nothing."""
    return options.statement_timeout_seconds + GRACE_SECONDS
