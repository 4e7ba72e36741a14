"""What `taskyard doctor` asks each database: whether it answers, its age, its tables, its clock."""

from collections.abc import Iterator, Sequence

from sqlalchemy import select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from app.common.clock import utc_now
from app.common.errors import TaskyardError
from app.common.findings import Finding, good, is_older
from app.common.redaction import mask_text
from app.config.plugins import LoadedPlugin
from app.db import migrations
from app.db.databases import Databases
from app.db.types import db_now

# A second is what a lease of ours bears without anybody's noticing.
_MOST_SKEW_SECONDS = 1.0
_MINIMUM = {
    "PostgreSQL": (15,),
    "MariaDB": (10, 11),
    "MySQL": (8,),
    "SQLite": (3, 35),
}


def check_databases(databases: Databases, plugins: Sequence[LoadedPlugin]) -> Iterator[Finding]:
    """Yield what there is to say of every bind, then of the migrations of those that answer."""
    away = set()
    for bind in databases.binds:
        file = databases.url(bind).sqlite_file
        if file is not None and not file.exists():
            away.add(bind)
            yield _not_made_yet(bind)
            continue
        try:
            with databases.sync_autocommit(bind) as connection:
                yield from _look_at(bind, connection)
        except (DBAPIError, TaskyardError, OSError) as error:
            away.add(bind)
            yield _unavailable(databases, bind, error)
    if not away:
        yield from _check_migrations(databases, plugins)


def _not_made_yet(bind: str) -> Finding:
    return Finding(
        check=f"database {bind}",
        level="warn",
        what="the SQLite file is not there yet",
        why="Nothing has been started here; `taskyard dev` makes it.",
        fix="taskyard db upgrade",
    )


def _unavailable(databases: Databases, bind: str, error: Exception) -> Finding:
    address = databases.url(bind).async_url.render_as_string(hide_password=True)
    cause = str(error.__cause__ or error).strip().splitlines()
    return Finding(
        check=f"database {bind}",
        level="fail",
        what=f"{address} does not answer: {mask_text(cause[0]) if cause else 'no message'}",
        why="Without the application database nothing runs; another one is needed by its plugin.",
        fix="taskyard config show",
        unavailable=True,
    )


def _look_at(bind: str, connection: Connection) -> Iterator[Finding]:
    product, version = _version(connection)
    minimum = _MINIMUM[product]
    if is_older(version, minimum):
        yield Finding(
            check=f"database {bind}",
            level="fail",
            what=f"{product} {version}",
            why=f"{product} {'.'.join(map(str, minimum))} is the oldest that is tested.",
            fix=f"upgrade the server of {bind}, then: taskyard doctor",
        )
    else:
        yield good(f"database {bind}", f"{product} {version}")
    if product != "SQLite":
        yield _compare_clocks(bind, connection)


def _version(connection: Connection) -> tuple[str, str]:
    match connection.dialect.name:
        case "postgresql":
            return "PostgreSQL", str(connection.execute(text("SHOW server_version")).scalar())
        case "sqlite":
            return "SQLite", str(connection.execute(text("SELECT sqlite_version()")).scalar())
        case _:
            version = str(connection.execute(text("SELECT VERSION()")).scalar())
            return ("MariaDB" if "mariadb" in version.lower() else "MySQL"), version


def _compare_clocks(bind: str, connection: Connection) -> Finding:
    before = utc_now()
    told = connection.execute(select(db_now())).scalar_one()
    after = utc_now()
    skew = (told - (before + (after - before) / 2)).total_seconds()
    if abs(skew) <= _MOST_SKEW_SECONDS + (after - before).total_seconds():
        return good(f"clock {bind}", f"{skew:+.3f} s from this machine's")
    return Finding(
        check=f"clock {bind}",
        level="warn",
        what=f"{skew:+.1f} s from this machine's",
        why="Due times and leases count on the database's clock, tokens on this machine's.",
        fix="timedatectl set-ntp true",
    )


def _check_migrations(databases: Databases, plugins: Sequence[LoadedPlugin]) -> Iterator[Finding]:
    try:
        states = migrations.status(databases, plugins)
    except migrations.DatabaseAhead as error:
        yield Finding(
            check="migrations",
            level="warn",
            what=error.detail,
            why="In a rolling upgrade that passes; else this program is the older one.",
            fix="install the newer version, then: taskyard db status",
        )
        return
    pending = [f"{one.owner}/{one.bind}" for one in states if one.pending]
    if pending:
        yield Finding(
            check="migrations",
            level="fail",
            what=f"revisions are pending: {', '.join(pending)}",
            why="The code expects tables that are not there.",
            fix="taskyard db upgrade",
        )
    else:
        yield good("migrations", f"{len(states)} lines are at their newest revision")
