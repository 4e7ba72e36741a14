"""Which driver errors mean "not now" instead of "never", and as what they are raised."""

from sqlalchemy import event
from sqlalchemy.engine import Engine, ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import AsyncAdaptedQueuePool, PoolProxiedConnection, QueuePool

from app.db.errors import DatabaseBusy, DatabaseUnavailable, PoolExhausted, TransactionConflict

_BUSY = {
    "57014",  # PostgreSQL: statement timeout
    "55P03",  # PostgreSQL: lock timeout
    "1205",  # MySQL: lock wait timeout
    "3024",  # MySQL: max_execution_time
    "1969",  # MariaDB: max_statement_time
}
_CONFLICT = {
    "40001",  # PostgreSQL: serialization failure
    "40P01",  # PostgreSQL: deadlock
    "1213",  # MySQL: deadlock
}
_UNAVAILABLE = {
    "53300",  # PostgreSQL: too many connections
    "57P01",  # PostgreSQL: shut down by an administrator
    "57P02",  # PostgreSQL: crash of another backend
    "57P03",  # PostgreSQL: starting up or shutting down
    "1040",  # MySQL: too many connections
    "1053",  # MySQL: shutting down
    "2003",  # MySQL: cannot connect
    "2006",  # MySQL: server has gone away
    "2013",  # MySQL: connection lost
}
_SQLITE_BUSY = ("database is locked", "database table is locked", "database schema is locked")


def watch(engine: Engine, bind: str) -> None:
    """Make the engine raise our errors for faults that pass, on every path through it.

    A listener, and not a wrapper around our own functions, because sessions that
    an author opened meet the same faults.
    """
    if isinstance(engine.pool, WatchedPool):
        engine.pool.bind = bind

    @event.listens_for(engine, "handle_error")
    def _translate(context: ExceptionContext) -> BaseException | None:
        original = context.original_exception
        if isinstance(original, TimeoutError):
            # The server was silent: the connection is in an unknown state.
            context.is_disconnect = True
        if context.is_pre_ping:
            # The pool opens another connection when it meets the driver's own error.
            return None
        kind = classify(original)
        if kind is None and (context.is_disconnect or _while_connecting(context)):
            kind = DatabaseUnavailable
        return kind(bind) if kind else None


def classify(error: BaseException) -> type[DatabaseUnavailable] | None:
    """Return the error class for a driver's exception, None when it is not a passing fault."""
    code = _code_of(error)
    if code in _BUSY or str(error).startswith(_SQLITE_BUSY):
        return DatabaseBusy
    if code in _CONFLICT:
        return TransactionConflict
    if code in _UNAVAILABLE or isinstance(error, TimeoutError):
        return DatabaseUnavailable
    return None


class WatchedPool(QueuePool):
    """A pool whose timeout is PoolExhausted."""

    bind = ""

    def connect(self) -> PoolProxiedConnection:
        """Return a connection; raises PoolExhausted when none became free in time."""
        try:
            return super().connect()
        except PoolTimeout as error:
            raise PoolExhausted(self.bind) from error

    def recreate(self) -> QueuePool:
        """Return a fresh pool of the same bind."""
        fresh = super().recreate()
        assert isinstance(fresh, WatchedPool)  # noqa: S101 - the parent makes one of its own class
        fresh.bind = self.bind
        return fresh


class WatchedAsyncPool(WatchedPool, AsyncAdaptedQueuePool):
    """The same for an event loop."""


def _code_of(error: BaseException) -> str | None:
    # MySQL's own number says more than the SQLSTATE beside it.
    first = error.args[0] if error.args else None
    if isinstance(first, int):
        return str(first)
    state = getattr(error, "sqlstate", None)
    return None if state is None else str(state)


def _while_connecting(context: ExceptionContext) -> bool:
    return context.connection is None and context.engine is not None and context.statement is None
