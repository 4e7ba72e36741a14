"""Letters of an installation that knew no tenants of letters, and the audit log's guards."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.common.ids import new_id
from app.config.settings import APPLICATION_BIND
from app.db import Databases, migrations
from tests.harness import settings_on
from tests.services import Services

RUN = """
    INSERT INTO task_runs (id, task, function, status, params, options, labels, attempt,
        max_attempts, fence, queue, priority, created_by, tenant, trace_id)
    VALUES (:id, 't.x', 't.x', 'FAILED', '{}', '{}', '{}', 1, 1, 1, 'default', 5, 'a', :tenant, 'f')
"""
LETTER = """
    INSERT INTO dead_letters (id, run_id, queue, origin, error_type, error_message, attempts)
    VALUES (:id, :run_id, 'default', 'run', 'Fatal', 'no', 1)
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Databases]:
    url = None
    if request.param == "postgresql":
        services: Services = request.getfixturevalue("services")
        url = services.create_database("postgres")
    opened = Databases(settings_on(tmp_path, postgres_url=url).databases)
    yield opened
    opened.dispose_sync()


def sql(databases: Databases, statement: str, **params: Any) -> list[Any]:
    with databases.sync_begin(APPLICATION_BIND) as connection:
        result = connection.execute(text(statement), params)
        return list(result.all()) if result.returns_rows else []


def test_letters_get_the_tenant_of_their_run_and_survive_the_way_back(
    databases: Databases,
) -> None:
    migrations.upgrade(databases, (), owner="core", to="0002_runs")
    runs: dict[str | None, str | None] = {new_id(): "north", new_id(): None}
    for run_id, tenant in runs.items():
        sql(databases, RUN, id=run_id, tenant=tenant)
        sql(databases, LETTER, id=new_id(), run_id=run_id)
    sql(databases, LETTER, id=new_id(), run_id=None)
    for _ in range(2):
        migrations.upgrade(databases, (), owner="core", to="0003_dead_letters")
        rows = sql(databases, "SELECT run_id, tenant, replayed_at, discarded_at FROM dead_letters")
        found = {row.run_id and str(row.run_id): row.tenant for row in rows}
        assert found == {**runs, None: None}
        assert {(row.replayed_at, row.discarded_at) for row in rows} == {(None, None)}
        migrations.downgrade(databases, (), owner="core", to="0002_runs")
    assert len(sql(databases, "SELECT id FROM dead_letters")) == 3


def test_the_guards_go_and_come_with_the_table(databases: Databases) -> None:
    migrations.upgrade(databases, (), owner="core")
    migrations.downgrade(databases, (), owner="core", to="0002_runs")
    migrations.upgrade(databases, (), owner="core")
    entry = "INSERT INTO audit_log (actor, action, object_type, object_id) VALUES ('a','b','c','d')"
    sql(databases, entry)
    for statement in ("UPDATE audit_log SET actor = 'x'", "DELETE FROM audit_log"):
        with pytest.raises(DBAPIError, match="append-only"):
            sql(databases, statement)
    assert [row.actor for row in sql(databases, "SELECT actor FROM audit_log")] == ["a"]
