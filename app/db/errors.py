"""What can go wrong between us and a database, as errors that the API can answer with.

    ServiceUnavailable
    `-- DatabaseUnavailable        503 DATABASE_UNAVAILABLE
        |-- PoolExhausted          503 DATABASE_POOL_EXHAUSTED
        |-- DatabaseBusy           503 DATABASE_BUSY
        `-- TransactionConflict    503 TRANSACTION_CONFLICT
    ConfigurationError
    |-- UnknownBind                UNKNOWN_BIND
    `-- DatabaseUrlError           DATABASE_URL_INVALID

None of their texts holds a URL, a host or a statement: they travel to clients.
The driver's own words are the ``__cause__`` and belong in the log.
"""

from collections.abc import Iterable
from difflib import get_close_matches

from app.common.errors import ConfigurationError, ServiceUnavailable

RETRY_AFTER_SECONDS = 1


class DatabaseUnavailable(ServiceUnavailable):
    """A database does not answer, or the connection to it broke; nothing was committed."""

    code = "DATABASE_UNAVAILABLE"
    title = "Database unavailable"
    says = "does not answer"

    def __init__(self, bind: str) -> None:
        super().__init__(
            f"The database '{bind}' {self.says}.",
            headers={"Retry-After": str(RETRY_AFTER_SECONDS)},
        )
        self.bind = bind


class PoolExhausted(DatabaseUnavailable):
    """Every connection of the pool stayed in use for the whole pool timeout."""

    code = "DATABASE_POOL_EXHAUSTED"
    title = "Database connections exhausted"
    says = "has no free connection in this process"


class DatabaseBusy(DatabaseUnavailable):
    """A statement or a lock took longer than its time limit, so the database gave it up."""

    code = "DATABASE_BUSY"
    title = "Database busy"
    says = "did not finish the statement within its time limit"


class TransactionConflict(DatabaseUnavailable):
    """Two transactions got in each other's way and this one was rolled back; try again."""

    code = "TRANSACTION_CONFLICT"
    title = "Transaction conflict"
    says = "rolled the transaction back in favour of another one"


class UnknownBind(ConfigurationError):
    """A bind was named that is not configured under ``databases``."""

    code = "UNKNOWN_BIND"
    title = "Unknown database"

    def __init__(self, bind: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(bind, names, n=1)
        listed = ", ".join(names) or "none"
        add = f"Add 'databases.{bind}.url' to the settings."
        super().__init__(
            f"No database '{bind}' is configured; there is {listed}.",
            hint=f"Did you mean '{near[0]}'?" if near else add,
        )


class DatabaseUrlError(ConfigurationError):
    """A database URL cannot be used: unreadable, or of a driver that is not supported."""

    code = "DATABASE_URL_INVALID"
    title = "Database URL not usable"
