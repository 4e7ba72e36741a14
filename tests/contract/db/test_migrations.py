"""Migrations of the core and of a plugin: up, down, up, drift and locks on every dialect."""

import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

import app.auth.models
import app.tasks.models
import app.tasks.schedule_models  # noqa: F401 - the check compares with the core's models
from app.config.plugins import LoadedPlugin
from app.config.settings import APPLICATION_BIND, LINT_BIND
from app.db import Databases
from app.db.errors import DatabaseBusy, UnknownBind
from app.db.migration_lock import exclusive
from app.db.migrations import (
    MigrationError,
    check,
    downgrade,
    is_current,
    revision,
    status,
    units,
    upgrade,
)
from tests.contract.db.making import make_databases, new_database, options
from tests.contract.db.sample_plugin.plugin import PLUGIN

NOTES = LoadedPlugin(PLUGIN, "tests.contract.db.sample_plugin", is_package=True)
FIRST, SECOND = "0001_notes", "0002_longer"
NOTE_ID = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def lint(empty_url: str) -> Iterator[Databases]:
    databases = make_databases(empty_url, LINT_BIND)
    yield databases
    databases.dispose_sync()


def tables(databases: Databases, bind: str) -> set[str]:
    with databases.sync_autocommit(bind) as connection:
        return set(sa.inspect(connection).get_table_names())


def up(databases: Databases, to: str = "head") -> Any:
    (step,) = upgrade(databases, [NOTES], owner="notes", bind=LINT_BIND, to=to)
    return step


def down(databases: Databases, to: str = "-1") -> Any:
    (step,) = downgrade(databases, [NOTES], owner="notes", bind=LINT_BIND, to=to)
    return step


def differences(databases: Databases) -> tuple[str, ...]:
    (drift,) = check(databases, [NOTES], owner="notes", bind=LINT_BIND)
    assert drift.is_clean == (not drift.differences and not drift.pending)
    return drift.differences


def test_a_plugin_goes_up_down_and_up(lint: Databases) -> None:
    step = up(lint)
    assert (step.before, step.after, step.applied) == (None, SECOND, (FIRST, SECOND))
    assert differences(lint) == ()
    assert up(lint).applied == ()
    step = down(lint)
    assert (step.before, step.after, step.applied) == (SECOND, FIRST, (SECOND,))
    step = down(lint, "base")
    assert (step.before, step.after, step.applied) == (FIRST, None, (FIRST,))
    assert tables(lint, LINT_BIND) == {"alembic_version_notes"}
    assert up(lint).applied == (FIRST, SECOND)
    assert differences(lint) == ()


def test_status_tells_where_a_unit_stands(lint: Databases) -> None:
    def now() -> Any:
        (one,) = status(lint, [NOTES], bind=LINT_BIND)
        return one

    one = now()
    assert (one.owner, one.bind) == ("notes", LINT_BIND)
    assert (one.current, one.head, one.pending) == (None, SECOND, (FIRST, SECOND))
    # Asking changes nothing, the version table included.
    assert tables(lint, LINT_BIND) == set()
    up(lint, FIRST)
    one = now()
    assert (one.current, one.pending) == (FIRST, (SECOND,))
    up(lint)
    one = now()
    assert (one.current, one.pending) == (SECOND, ())


def test_rows_and_references_survive_a_change_of_the_table(lint: Databases) -> None:
    up(lint, FIRST)
    with lint.sync_begin(LINT_BIND) as connection:
        note = f"'{NOTE_ID}', 'x', 'short', '2026-01-01 00:00:00.000000'"
        connection.execute(sa.text(f"INSERT INTO notes VALUES ({note})"))
        connection.execute(sa.text(f"INSERT INTO note_comments VALUES ('{NOTE_ID}', '{NOTE_ID}')"))
    up(lint)
    down(lint)
    with lint.sync_begin(LINT_BIND) as connection:
        assert connection.execute(sa.text("SELECT COUNT(*) FROM note_comments")).scalar_one() == 1
        # Foreign keys are in force again after the migration.
        connection.execute(sa.text("DELETE FROM notes"))
        assert connection.execute(sa.text("SELECT COUNT(*) FROM note_comments")).scalar_one() == 0


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("ALTER TABLE notes ADD COLUMN stray INT", "remove column"),
        ("ALTER TABLE notes DROP COLUMN extra", "add column"),
        ("DROP TABLE note_comments", "add table: note_comments"),
        ("CREATE INDEX ix_stray ON notes (text)", "remove index"),
    ],
    ids=["stray-column", "missing-column", "missing-table", "stray-index"],
)
def test_drift_is_seen(lint: Databases, statement: str, expected: str) -> None:
    up(lint)
    with lint.sync_begin(LINT_BIND) as connection:
        connection.execute(sa.text(statement))
    assert any(expected in one for one in differences(lint))


def test_drift_of_a_type_is_seen(lint: Databases) -> None:
    up(lint)
    if lint.dialect(LINT_BIND) == "sqlite":
        pytest.skip("SQLite cannot change the type of a column")
    change = {
        "postgresql": "ALTER TABLE notes ALTER COLUMN at TYPE timestamp",
        "mysql": "ALTER TABLE notes MODIFY at DATETIME NOT NULL",
    }[lint.dialect(LINT_BIND)]
    with lint.sync_begin(LINT_BIND) as connection:
        connection.execute(sa.text(change))
    assert any("modify type" in one for one in differences(lint))


def test_tables_of_others_are_no_drift(lint: Databases) -> None:
    up(lint)
    with lint.sync_begin(LINT_BIND) as connection:
        connection.execute(sa.text("CREATE TABLE strangers (id INT)"))
    assert differences(lint) == ()


def test_pending_revisions_are_no_clean_check(lint: Databases) -> None:
    up(lint, FIRST)
    (drift,) = check(lint, [NOTES], bind=LINT_BIND)
    assert drift.pending == (SECOND,)
    assert not drift.is_clean


def test_a_database_ahead_of_the_code_is_told(lint: Databases) -> None:
    up(lint)
    with lint.sync_begin(LINT_BIND) as connection:
        connection.execute(sa.text("UPDATE alembic_version_notes SET version_num = '0099_future'"))
    for work in (status, check, upgrade):
        with pytest.raises(MigrationError) as caught:
            work(lint, [NOTES], bind=LINT_BIND)
        assert "0099_future" in caught.value.detail


def test_one_run_at_a_time(lint: Databases) -> None:
    dialect = lint.dialect(LINT_BIND)
    engine = lint.get_sync_engine(LINT_BIND)
    if dialect == "sqlite":
        pytest.skip("SQLite waits in the library; see the processes below")
    with (
        engine.connect() as first,
        exclusive(first, dialect, LINT_BIND),
        engine.connect() as second,
        pytest.raises(DatabaseBusy),
        exclusive(second, dialect, LINT_BIND, wait_seconds=0.1),
    ):
        pytest.fail("two runs held the lock")
    with engine.connect() as third, exclusive(third, dialect, LINT_BIND, wait_seconds=0.1):
        pass


def test_an_error_frees_the_lock(lint: Databases) -> None:
    dialect = lint.dialect(LINT_BIND)
    engine = lint.get_sync_engine(LINT_BIND)

    def fail() -> None:
        with engine.connect() as connection, exclusive(connection, dialect, LINT_BIND):
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        fail()
    assert up(lint).after == SECOND


def test_a_migration_that_fails_frees_the_lock(lint: Databases) -> None:
    up(lint)
    with lint.sync_begin(LINT_BIND) as connection:
        connection.execute(sa.text("UPDATE alembic_version_notes SET version_num = '0099_future'"))
    dialect, engine = lint.dialect(LINT_BIND), lint.get_sync_engine(LINT_BIND)
    # While the error is at hand, and with it all that its traceback holds.
    with pytest.raises(MigrationError) as caught:
        upgrade(lint, [NOTES], bind=LINT_BIND)
    with engine.connect() as other, exclusive(other, dialect, LINT_BIND, wait_seconds=0.1):
        assert "0099_future" in caught.value.detail


def _upgrade_and_tell(url: str, queue: Any) -> None:
    databases = make_databases(url, LINT_BIND)
    try:
        queue.put(up(databases).applied)
    except Exception as error:  # noqa: BLE001 - told to the parent
        queue.put(repr(error))


def test_processes_that_migrate_at_once_apply_each_revision_once(empty_url: str) -> None:
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [
        context.Process(target=_upgrade_and_tell, args=(empty_url, queue)) for _ in range(4)
    ]
    for process in processes:
        process.start()
    told = sorted((queue.get(timeout=60) for _ in processes), key=len)
    for process in processes:
        process.join()
    assert told == [(), (), (), (FIRST, SECOND)]


@pytest.fixture(params=["sqlite", "postgresql"])
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Databases]:
    """Both binds, the application's on SQLite or PostgreSQL."""
    databases = Databases(
        {
            APPLICATION_BIND: options(new_database(request.param, request, tmp_path)),
            LINT_BIND: options(f"sqlite+aiosqlite:///{tmp_path}/lint.db"),
        }
    )
    yield databases
    databases.dispose_sync()


def test_the_core_goes_up_down_and_up_beside_a_plugin(both: Databases) -> None:
    steps = upgrade(both, [NOTES])
    assert [(step.owner, step.bind) for step in steps] == [
        ("core", APPLICATION_BIND),
        ("notes", LINT_BIND),
        ("notes", APPLICATION_BIND),
    ]
    assert [one.differences for one in check(both, [NOTES])] == [(), (), ()]
    assert is_current(both, [NOTES])
    assert {"alembic_version_core", "alembic_version_notes"} <= tables(both, APPLICATION_BIND)
    # The plugin is switched off: the others go on without it.
    assert [one.is_clean for one in check(both, [])] == [True]
    back = downgrade(both, [NOTES], to="base")
    assert [step.owner for step in back] == ["notes", "notes", "core"]
    assert tables(both, APPLICATION_BIND) == {"alembic_version_core", "alembic_version_notes"}
    assert not is_current(both, [NOTES])
    upgrade(both, [NOTES])
    assert all(one.is_clean for one in check(both, [NOTES]))


def test_each_step_of_the_core_can_be_undone(both: Databases) -> None:
    (step,) = upgrade(both, [], owner="core")
    for name in reversed(step.applied):
        (back,) = downgrade(both, [], owner="core")
        assert back.applied == (name,)
        upgrade(both, [], owner="core", to=name)
        downgrade(both, [], owner="core")
    assert tables(both, APPLICATION_BIND) == {"alembic_version_core"}


def test_the_order_of_plugins_changes_nothing() -> None:
    other = LoadedPlugin(PLUGIN.__class__(name="aaa", version="1"), NOTES.module, is_package=True)
    orders = ([NOTES, other], [other, NOTES])
    assert len({tuple(one.name for one in units(order)) for order in orders}) == 1
    for table in units([NOTES])[-1].tables():
        assert table.info["owner"] == "notes"


def test_old_code_serves_on_beside_a_newer_database(both: Databases) -> None:
    upgrade(both, [])
    with both.sync_begin(APPLICATION_BIND) as connection:
        connection.execute(sa.text("UPDATE alembic_version_core SET version_num = '9999_newer'"))
    assert is_current(both, [])
    # Another unit that is behind is still seen.
    assert not is_current(both, [NOTES])


def test_an_unknown_owner_or_bind_lists_what_there_is(both: Databases) -> None:
    with pytest.raises(MigrationError) as caught:
        status(both, [NOTES], owner="nobody")
    assert "core/postgres_main, notes/mysql_lint" in (caught.value.hint or "")
    with pytest.raises(MigrationError):
        upgrade(both, [], bind=LINT_BIND)


def test_a_bind_without_a_database_is_told(tmp_path: Path) -> None:
    databases = make_databases(f"sqlite+aiosqlite:///{tmp_path}/app.db")
    with pytest.raises(UnknownBind, match=r"mysql_lint.*there is postgres_main"):
        status(databases, [NOTES])


def test_a_new_revision_holds_what_the_database_lacks(tmp_path: Path) -> None:
    plugin_root = Path(__file__).parent / "sample_plugin"
    databases = make_databases(f"sqlite+aiosqlite:///{tmp_path}/lint.db", LINT_BIND)
    with pytest.raises(MigrationError, match="not up to date"):
        revision(databases, [NOTES], owner="notes", bind=LINT_BIND, message="Drop comments")
    up(databases)
    with databases.sync_begin(LINT_BIND) as connection:
        connection.execute(sa.text("DROP TABLE note_comments"))
    message = "Bring the comments back, please!"
    file = revision(databases, [NOTES], owner="notes", bind=LINT_BIND, message=message)
    try:
        assert file.parent == plugin_root / "migrations/mysql_lint/versions"
        assert file.name == "0003_bring_the_comments_back_pl.py"
        written = file.read_text()
        assert 'down_revision = "0002_longer"' in written.replace("'", '"')
        assert "create_table" in written
        assert "IdType" in written
        assert up(databases).applied == (file.stem,)
        assert differences(databases) == ()
    finally:
        file.unlink()
        databases.dispose_sync()
