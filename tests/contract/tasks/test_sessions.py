"""`ctx.session`: committed with the outcome, or not at all; and a database that goes away."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app import Fatal, TaskContext, register_task
from app.common import failpoints
from app.common.ids import new_id
from app.config import Settings, load_settings
from app.db import Databases
from app.tasks.execution import Disposition, Executor
from tests.harness import Installation, Somebody

Install = Callable[..., Installation]
ADD = text("INSERT INTO effects (run_id, note) VALUES (:run_id, :note)")
TAKE_OVER = "UPDATE task_runs SET fence = fence + 1"


@pytest.fixture(params=["sqlite", "mysql"])
def yard_of(
    request: pytest.FixtureRequest,
    install: Install,
    installed_settings: Settings,
) -> Iterator[Install]:
    """Installations whose second bind is SQLite or MariaDB, with a table of effects on each."""
    environ = {
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": installed_settings.databases[
            "postgres_main"
        ].url.get_secret_value()
    }
    if request.param == "mysql":
        environ["TASKYARD_DATABASES__MYSQL_LINT__URL"] = request.getfixturevalue(
            "services"
        ).mysql_url
    settings = load_settings(data_dir=installed_settings.data_dir, environ=environ)
    databases = Databases(settings.databases)
    for bind in ("postgres_main", "mysql_lint"):
        with databases.sync_begin(bind) as connection:
            connection.execute(text("DROP TABLE IF EXISTS effects"))
            connection.execute(
                text("CREATE TABLE effects (run_id VARCHAR(36), note VARCHAR(20) PRIMARY KEY)")
            )
    databases.dispose_sync()
    made: list[Installation] = []

    def make(*functions: Callable[..., Any]) -> Installation:
        made.append(Installation(settings, functions))
        return made[-1]

    yield make
    for yard in made:
        yard.close()


def effects(yard: Installation, bind: str) -> list[str]:
    with yard.services.databases.sync_autocommit(bind) as connection:
        return list(connection.execute(text("SELECT note FROM effects ORDER BY note")).scalars())


async def take_over(yard: Installation) -> None:
    async with yard.services.databases.begin("postgres_main") as connection:
        await connection.execute(text(TAKE_OVER))


def make_async(name: str, after: Callable[[TaskContext], Any] | None = None) -> Any:
    """A task that writes to both binds and then does something more."""

    @register_task(name, max_attempts=1)
    async def both(ctx: TaskContext) -> str:
        """Write to both."""
        for bind in ("mysql_lint", "postgres_main"):
            await ctx.session(bind).execute(ADD, {"run_id": ctx.task_id, "note": bind[:5]})
        if after is not None:
            await after(ctx)
        return "done"

    return both


def make_sync(name: str, after: Callable[[TaskContext], Any] | None = None) -> Any:
    @register_task(name, max_attempts=1)
    def both(ctx: TaskContext) -> str:
        """Write to both."""
        for bind in ("mysql_lint", "postgres_main"):
            ctx.session(bind).execute(ADD, {"run_id": ctx.task_id, "note": bind[:5]})
        if after is not None:
            after(ctx)
        return "done"

    return both


@pytest.mark.parametrize("make", [make_async, make_sync])
def test_both_binds_are_committed_with_the_outcome(yard_of: Install, make: Any) -> None:
    yard = yard_of(make("test.both"))
    run_id = yard.submit("test.both").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "SUCCEEDED"
    assert effects(yard, "postgres_main") == ["postg"]
    assert effects(yard, "mysql_lint") == ["mysql"]


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_failed_attempt_leaves_nothing(yard_of: Install, kind: str) -> None:
    async def fail_async(_: TaskContext) -> None:
        raise Fatal("no")

    def fail_sync(_: TaskContext) -> None:
        raise Fatal("no")

    task = (
        make_async("test.both", fail_async)
        if kind == "async"
        else make_sync("test.both", fail_sync)
    )
    yard = yard_of(task)
    run_id = yard.submit("test.both").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "FAILED"
    assert effects(yard, "postgres_main") == effects(yard, "mysql_lint") == []


def test_a_zombie_commits_on_no_bind(yard_of: Install) -> None:
    async def lose(_: TaskContext) -> None:
        # SQLite has one writer, so there the other attempt takes over before the session writes.
        await take_over(yard)

    if yard_of().is_sqlite:

        @register_task("test.both")
        async def task(ctx: TaskContext) -> str:
            """Write to both after the lease is lost."""
            await take_over(yard)
            for bind in ("mysql_lint", "postgres_main"):
                await ctx.session(bind).execute(ADD, {"run_id": ctx.task_id, "note": bind[:5]})
            return "late"
    else:
        task = make_async("test.both", lose)
    yard = yard_of(task)
    run_id = yard.submit("test.both").task_id
    assert yard.deliver(run_id) is Disposition.DONE
    assert (yard.row(run_id).status, yard.row(run_id).result) == ("RUNNING", None)
    assert effects(yard, "postgres_main") == effects(yard, "mysql_lint") == []


def test_a_blocking_zombie_commits_on_no_bind(yard_of: Install) -> None:
    @register_task("test.late")
    def late(ctx: TaskContext) -> None:
        """Write to both after the lease is lost."""
        with yard.services.databases.sync_begin("postgres_main") as connection:
            connection.execute(text(TAKE_OVER))
        for bind in ("mysql_lint", "postgres_main"):
            ctx.session(bind).execute(ADD, {"run_id": ctx.task_id, "note": bind[:5]})

    yard = yard_of(late)
    run_id = yard.submit("test.late").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "RUNNING"
    assert effects(yard, "postgres_main") == effects(yard, "mysql_lint") == []


def test_the_second_bind_is_committed_before_the_outcome(yard_of: Install) -> None:
    # A deferred fault: the second bind's commit fails, so the outcome must not be a success.
    @register_task("test.broken", max_attempts=1)
    async def broken(ctx: TaskContext) -> str:
        """Write to both and break the second bind."""
        await ctx.session("postgres_main").execute(ADD, {"run_id": ctx.task_id, "note": "main"})
        session = ctx.session("mysql_lint")
        await session.execute(ADD, {"run_id": ctx.task_id, "note": "second"})
        connection = await session.connection()
        await connection.invalidate()
        return "done"

    yard = yard_of(broken)
    run_id = yard.submit("test.broken").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "FAILED"
    assert effects(yard, "postgres_main") == effects(yard, "mysql_lint") == []


def test_only_the_other_bind_is_used(yard_of: Install) -> None:
    @register_task("test.other_bind")
    async def other_bind(ctx: TaskContext) -> None:
        """Write to the second bind alone."""
        await ctx.session("mysql_lint").execute(ADD, {"run_id": ctx.task_id, "note": "one"})

    yard = yard_of(other_bind)
    run_id = yard.submit("test.other_bind").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "SUCCEEDED"
    assert effects(yard, "mysql_lint") == ["one"]


def test_a_session_is_opened_once(yard_of: Install) -> None:
    @register_task("test.same")
    async def same(ctx: TaskContext) -> bool:
        """Ask twice."""
        return ctx.session("postgres_main") is ctx.session("postgres_main")

    yard = yard_of(same)
    run_id = yard.submit("test.same").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).result is True


# From here on the second bind does not matter.


@pytest.fixture
def yard_with(install: Install, installed_settings: Settings) -> Install:
    databases = Databases(installed_settings.databases)
    with databases.sync_begin("postgres_main") as connection:
        connection.execute(text("DROP TABLE IF EXISTS effects"))
        connection.execute(
            text("CREATE TABLE effects (run_id VARCHAR(36), note VARCHAR(20) PRIMARY KEY)")
        )
    databases.dispose_sync()
    return install


@pytest.mark.parametrize("is_async", [True, False])
def test_progress_beside_an_open_session(yard_with: Install, is_async: bool) -> None:
    # On SQLite the session holds the only write lock: a report must not wait for itself.
    @register_task("test.async_report")
    async def async_report(ctx: TaskContext) -> None:
        """Write and report."""
        await ctx.session("postgres_main").execute(ADD, {"run_id": ctx.task_id, "note": "a"})
        await ctx.progress(1, 2, "half \ud800")

    @register_task("test.sync_report")
    def sync_report(ctx: TaskContext) -> None:
        """Write and report."""
        ctx.session("postgres_main").execute(ADD, {"run_id": ctx.task_id, "note": "a"})
        ctx.progress(1, 2, "half \ud800")

    yard = yard_with(async_report, sync_report)
    run_id = yard.submit("test.async_report" if is_async else "test.sync_report").task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.error, row.attempt) == ("SUCCEEDED", None, 1)
    assert row.progress == {"current": 1, "total": 2, "message": "half ?"}
    assert effects(yard, "postgres_main") == ["a"]


def test_an_effect_that_the_database_refuses_fails_the_attempt(yard_with: Install) -> None:
    @register_task("test.twice", max_attempts=1)
    async def twice(ctx: TaskContext) -> None:
        """Hide an error of the session, which can commit nothing after that."""
        session = ctx.session("postgres_main")
        try:
            for _ in range(2):
                await session.execute(ADD, {"run_id": ctx.task_id, "note": "same"})
        except Exception:  # noqa: BLE001 - the mistake that is tested
            return

    yard = yard_with(twice)
    run_id = yard.submit("test.twice").task_id
    assert yard.deliver(run_id) is Disposition.DONE
    row = yard.row(run_id)
    if yard.is_sqlite:
        # SQLite undoes the one statement; the rest of the transaction stands.
        assert (row.status, effects(yard, "postgres_main")) == ("SUCCEEDED", ["same"])
    else:
        assert (row.status, effects(yard, "postgres_main")) == ("FAILED", [])


def test_a_child_whose_id_exists_fails_the_attempt(yard_with: Install) -> None:
    taken = new_id()

    @register_task("test.clash", max_attempts=1)
    async def clash(ctx: TaskContext) -> str:
        """Submit children, one with an id that another run has."""
        ctx.log.info("about to clash")
        ctx.submit("test.clash")
        return ctx.submit("test.clash", task_id=taken)

    yard = yard_with(clash)
    yard.submit("test.clash", task_id=taken)
    run_id = yard.submit("test.clash").task_id
    assert yard.deliver(run_id) is Disposition.DONE
    row = yard.row(run_id)
    assert (row.status, row.error["type"]) == ("FAILED", "IntegrityError")
    assert row.dead_letter_id is not None
    # No message goes out for a child that was not committed.
    assert {wakeup.run_id for wakeup in yard.transport.sent} == {taken, run_id}
    assert len(yard.sql("SELECT id FROM task_runs")) == 2


@pytest.mark.parametrize("task_id", ["x", "{0198c0de-0000-7000-8000-00000000abcd}"])
def test_a_child_needs_an_id_that_is_one(yard_with: Install, task_id: str) -> None:
    @register_task("test.bad_child", max_attempts=1)
    async def bad_child(ctx: TaskContext) -> None:
        """Submit a child with an id that is none."""
        ctx.submit("test.bad_child", task_id=task_id)

    yard = yard_with(bad_child)
    run_id = yard.submit("test.bad_child").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).error["type"] == "ValueError"


def test_log_lines_of_any_kind_cost_no_outcome(yard_with: Install) -> None:
    @register_task("test.odd_logs", max_attempts=1)
    async def odd_logs(ctx: TaskContext) -> None:
        """Log what no database keeps."""
        ctx.log.info("a\x00b\ud800", text="\ud800\x00", big=2**70, thing=object, nan=float("nan"))
        ctx.log.error("second")

    yard = yard_with(odd_logs)
    run_id = yard.submit("test.odd_logs").task_id
    yard.deliver(run_id)
    assert yard.row(run_id).status == "SUCCEEDED"
    lines = yard.run(yard.services.runs.logs(run_id, Somebody()))
    assert [line.message for line in lines] == ["a\ufffdb?", "second"]
    assert lines[0].fields["text"] == "?\ufffd"
    assert lines[0].fields["big"] == str(2**70)


def test_a_result_beyond_64_bits_is_a_failure(yard_with: Install) -> None:
    @register_task("test.huge", max_attempts=1)
    async def huge() -> int:
        """Return too large a number."""
        return 2**64

    yard = yard_with(huge)
    run_id = yard.submit("test.huge").task_id
    yard.deliver(run_id)
    assert (yard.row(run_id).status, yard.row(run_id).error["type"]) == ("FAILED", "TypeError")


def test_a_zombie_does_not_touch_the_stored_result(yard_with: Install) -> None:
    @register_task("test.large")
    async def large(ctx: TaskContext) -> str:
        """Return much, later than another attempt."""
        if ctx.attempt == 1:
            yard.lose_lease_later(ctx.task_id)
        return str(ctx.attempt) * 70_000

    class Overtaken(Installation):
        def lose_lease_later(self, run_id: str) -> None:
            """Run a whole second attempt while the first one is still under way."""
            import asyncio
            import threading

            def take_over() -> None:
                other = Installation(self.services.settings, [large])
                other.lose_lease(run_id)
                with asyncio.Runner() as runner:
                    other.other_worker().execute(runner, run_id)
                    runner.run(other.services.databases.dispose())
                other.close()

            thread = threading.Thread(target=take_over)
            thread.start()
            thread.join()

    base = yard_with(large)
    yard = Overtaken(base.services.settings, [large])
    run_id = yard.submit("test.large").task_id
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.attempt) == ("SUCCEEDED", 2)
    assert yard.run(yard.services.storage.get(row.result_ref)) == b'"' + b"2" * 70_000 + b'"'
    yard.close()


# A database that goes away while the outcome is recorded.


def kill_backends(settings: Settings) -> None:
    """End every connection to the application database, as a restart of PostgreSQL does."""
    import psycopg

    url = make_url(settings.databases["postgres_main"].url.get_secret_value())
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_connections_that_were_cut_cost_no_attempt(
    yard_with: Install, installed_settings: Settings
) -> None:
    @register_task("test.cut", max_attempts=1)
    async def cut() -> str:
        """Lose every connection."""
        if not yard.is_sqlite:
            kill_backends(installed_settings)
        else:
            await yard.services.databases.dispose()
        return "done"

    yard = yard_with(cut)
    run_id = yard.submit("test.cut").task_id
    assert yard.deliver(run_id) is Disposition.DONE
    row = yard.row(run_id)
    assert (row.status, row.result, row.attempt) == ("SUCCEEDED", "done", 1)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_cut_session_fails_the_attempt_and_is_tried_again(
    yard_with: Install, installed_settings: Settings, is_async: bool
) -> None:
    @register_task("test.cut_async", backoff_seconds=0)
    async def cut_async(ctx: TaskContext) -> str:
        """Write, and lose every connection at the first attempt."""
        await ctx.session("postgres_main").execute(ADD, {"run_id": ctx.task_id, "note": "a"})
        if ctx.attempt == 1:
            kill_backends(installed_settings)
        return "done"

    @register_task("test.cut_sync", backoff_seconds=0)
    def cut_sync(ctx: TaskContext) -> str:
        """Write, and lose every connection at the first attempt."""
        ctx.session("postgres_main").execute(ADD, {"run_id": ctx.task_id, "note": "a"})
        if ctx.attempt == 1:
            kill_backends(installed_settings)
        return "done"

    yard = yard_with(cut_async, cut_sync)
    if yard.is_sqlite:
        pytest.skip("SQLite has no server to lose")
    run_id = yard.submit("test.cut_async" if is_async else "test.cut_sync").task_id
    assert yard.deliver(run_id) is Disposition.DONE
    row = yard.row(run_id)
    assert (row.status, row.attempt) == ("RETRYING", 1)
    assert effects(yard, "postgres_main") == []
    yard.deliver(run_id)
    assert (yard.row(run_id).status, yard.row(run_id).attempt) == ("SUCCEEDED", 2)
    assert effects(yard, "postgres_main") == ["a"]


def test_a_message_whose_run_cannot_be_asked_about_comes_later(
    yard_with: Install, installed_settings: Settings
) -> None:
    @register_task("test.plain")
    async def plain() -> None:
        """Do nothing."""

    yard = yard_with(plain)
    run_id = yard.submit("test.plain").task_id
    away = dict(installed_settings.databases)
    url = "postgresql+asyncpg://nobody@127.0.0.1:1/none"
    away["postgres_main"] = away["postgres_main"].model_copy(
        update={"url": type(away["postgres_main"].url)(url)}
    )
    settings = installed_settings.model_copy(update={"databases": away})
    offline = Installation(settings, [plain])
    assert offline.deliver(run_id) is Disposition.LATER
    offline.close()


@pytest.mark.parametrize("run_id", ["", "garbage", "a\x00b", "x" * 5000])
def test_a_message_with_an_id_that_is_none_is_refused(yard_with: Install, run_id: str) -> None:
    assert yard_with().deliver(run_id) is Disposition.UNKNOWN


# An error between the commit and its answer, or between two commits.


def arm(monkeypatch: pytest.MonkeyPatch, points: str) -> None:
    monkeypatch.setattr(failpoints, "_points", failpoints.Failpoints(points))


def test_a_commit_whose_answer_was_lost_counts(
    yard_with: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    @register_task("test.parent")
    async def parent(ctx: TaskContext) -> str:
        """Write an effect and submit a child."""
        await ctx.session("postgres_main").execute(ADD, {"run_id": ctx.task_id, "note": "a"})
        return ctx.submit("test.parent")

    yard = yard_with(parent)
    run_id = yard.submit("test.parent").task_id
    arm(monkeypatch, "outcome.after_commit=raise:1")
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.attempt, row.error) == ("SUCCEEDED", 1, None)
    assert effects(yard, "postgres_main") == ["a"]
    # The messages are those of the outcome that stands in the row.
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id, row.result]


def test_an_unknown_error_while_recording_is_the_attempts_failure(
    yard_with: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    @register_task("test.parent")
    async def parent(ctx: TaskContext) -> str:
        """Submit a child."""
        return ctx.submit("test.parent")

    yard = yard_with(parent)
    run_id = yard.submit("test.parent").task_id
    arm(monkeypatch, "outcome.before_commit=raise:1")
    yard.deliver(run_id)
    row = yard.row(run_id)
    assert (row.status, row.error["type"]) == ("RETRYING", "FailpointError")
    # The message of the next attempt, and none of a child that was not committed.
    assert [wakeup.run_id for wakeup in yard.transport.sent] == [run_id, run_id]
    assert yard.transport.sent[-1].delay_seconds > 0


@pytest.mark.parametrize("make", [make_async, make_sync])
def test_a_crash_between_two_binds_leaves_the_second_one_written(
    yard_of: Install, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the guide promises of effects elsewhere: at least once, never instead of the outcome.
    yard = yard_of(make("test.both"))
    run_id = yard.submit("test.both").task_id
    arm(monkeypatch, "outcome.between_binds=raise:1")
    yard.deliver(run_id)
    assert yard.row(run_id).status == "FAILED"
    assert effects(yard, "postgres_main") == []
    assert effects(yard, "mysql_lint") == ["mysql"]


class PoolLimit(Exception):
    """What a pool raises when the soft time limit is over."""


def test_the_pools_time_limit_is_a_time_out(yard_with: Install) -> None:
    @register_task("test.limited", timeout_seconds=7, max_attempts=1)
    def limited() -> None:
        """Run into the pool's limit."""
        raise PoolLimit

    yard = yard_with(limited)
    run_id = yard.submit("test.limited").task_id
    executor = Executor(yard.services, worker="w", time_limit_errors=(PoolLimit,))
    assert executor.execute(yard.runner, run_id) is Disposition.DONE
    assert yard.row(run_id).error == {
        "type": "TimeoutError",
        "message": "The attempt ran longer than 7 seconds.",
        "retryable": True,
    }
