"""The pool of blocking connections to PostgreSQL: what it costs to take one, and lost ones."""

from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from bench.counting_proxy import CountingProxy, counting
from tests.contract.db.making import make_databases
from tests.services import Services

PID = text("SELECT pg_backend_pid()")


@pytest.fixture
def door(services: Services) -> Iterator[CountingProxy]:
    url = make_url(services.postgres_url)
    with counting(url.host or "127.0.0.1", url.port or 5432) as proxy:
        yield proxy


@pytest.fixture
def databases(services: Services, door: CountingProxy) -> Iterator[Databases]:
    url = make_url(services.postgres_url).set(host="127.0.0.1", port=door.port)
    opened = make_databases(url.render_as_string(hide_password=False))
    yield opened
    opened.dispose_sync()


def backend(databases: Databases) -> int:
    with databases.sync_autocommit(APPLICATION_BIND) as connection:
        pid: int = connection.execute(PID).scalar_one()
        return pid


def test_taking_a_connection_costs_no_statement(databases: Databases, door: CountingProxy) -> None:
    pid = backend(databases)
    before = door.statements
    assert [backend(databases) for _ in range(5)] == [pid] * 5
    assert door.statements - before == 5


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(
    databases: Databases, services: Services
) -> None:
    first = backend(databases)
    url = make_url(services.postgres_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [first])
    assert backend(databases) != first
