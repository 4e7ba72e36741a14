"""The hot connection: what it returns, and that no fault outlives its statement."""

import os
import signal
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError

from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.db.errors import DatabaseBusy, DatabaseUnavailable
from app.db.hot import HotConnection
from tests.contract.db.making import make_databases
from tests.integration.db.proxy import silent_proxy
from tests.services import Services

SLEEP = text("SELECT pg_sleep(:seconds)")
BACKEND = text("SELECT pg_backend_pid() AS pid")


@pytest.fixture
def databases(services: Services) -> Iterator[Databases]:
    opened = make_databases(services.postgres_url, statement_timeout_seconds=1)
    yield opened
    opened.dispose_sync()


@pytest.fixture
def hot(databases: Databases) -> Iterator[HotConnection]:
    connection = databases.hot_connection(APPLICATION_BIND)
    yield connection
    connection.close()


def backend(hot: HotConnection) -> int:
    return int(hot.execute(BACKEND, {})[0].pid)


def end_backend(services: Services, pid: int) -> None:
    url = make_url(services.postgres_url).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
        while other.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", [pid]).fetchone():
            time.sleep(0.01)


def test_rows_have_names_and_ids_are_text(hot: HotConnection) -> None:
    statement = text("SELECT CAST(:id AS uuid) AS id, CAST(:document AS json) AS document")
    run_id = "01a21e60-cd6e-7da1-acfe-bac3d3853e19"
    (row,) = hot.execute(statement, {"id": run_id, "document": '{"a": [1]}'})
    assert (row.id, row.document) == (run_id, {"a": [1]})


def test_each_statement_is_committed_and_planned_once(hot: HotConnection) -> None:
    hot.execute(text("SELECT set_config('taskyard.test', 'x', false)"), {})
    mode, level = text("SHOW plan_cache_mode"), text("SELECT txid_current_if_assigned() AS xid")
    assert hot.execute(mode, {})[0].plan_cache_mode == "force_generic_plan"
    # An open transaction would still have the id that the first statement took.
    hot.execute(text("SELECT txid_current()"), {})
    assert hot.execute(level, {})[0].xid is None


def test_a_connection_that_the_server_closed_meanwhile_costs_nothing(
    hot: HotConnection, services: Services
) -> None:
    first = backend(hot)
    end_backend(services, first)
    assert backend(hot) != first


def test_a_connection_that_is_lost_in_a_statement_is_told_and_replaced(
    services: Services,
) -> None:
    patient = make_databases(services.postgres_url, statement_timeout_seconds=20)
    hot = patient.hot_connection(APPLICATION_BIND)
    pid = backend(hot)
    killer = threading.Timer(0.3, end_backend, [services, pid])
    killer.start()
    with pytest.raises(DatabaseUnavailable):
        hot.execute(SLEEP, {"seconds": 15})
    killer.join()
    assert backend(hot) != pid
    hot.close()
    patient.dispose_sync()


def test_a_slow_statement_is_ended_by_the_server(hot: HotConnection) -> None:
    pid = backend(hot)
    with pytest.raises(DatabaseBusy):
        hot.execute(SLEEP, {"seconds": 15})
    assert backend(hot) == pid


def test_what_the_database_never_takes_is_an_error_of_its_own(hot: HotConnection) -> None:
    with pytest.raises(DBAPIError) as caught:
        hot.execute(text("SELECT CAST(:value AS json)"), {"value": "{secret"})
    assert "secret" not in str(caught.value.params)
    assert backend(hot)


def test_a_database_that_is_not_there_is_unavailable(services: Services) -> None:
    url = make_url(services.postgres_url).set(host="127.0.0.1", port=1)
    away = make_databases(url.render_as_string(hide_password=False))
    with pytest.raises(DatabaseUnavailable):
        away.hot_connection(APPLICATION_BIND).execute(BACKEND, {})
    away.dispose_sync()


def test_a_silent_server_is_given_up(services: Services) -> None:
    url = make_url(services.postgres_url)
    if url.host is None:
        pytest.skip("the server is reached through a socket file")
    with silent_proxy(url.host, url.port or 5432) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        behind = make_databases(through, statement_timeout_seconds=0.5, connect_timeout_seconds=1)
        hot = behind.hot_connection(APPLICATION_BIND)
        assert backend(hot)
        proxy.freeze()
        with pytest.raises(DatabaseUnavailable):
            hot.execute(BACKEND, {})
        proxy.thaw()
        assert backend(hot)
        hot.close()
        behind.dispose_sync()


class TimeIsUp(Exception):
    """What a pool raises from a signal."""


def test_a_signal_in_a_statement_leaves_no_answer_behind(hot: HotConnection) -> None:
    def interrupt(*_: object) -> None:
        raise TimeIsUp

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        pid = backend(hot)
        threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        with pytest.raises(TimeIsUp):
            hot.execute(SLEEP, {"seconds": 0.9})
        assert backend(hot) != pid
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_child_opens_its_own(hot: HotConnection) -> None:
    parent = backend(hot)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, str(backend(hot)).encode())
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reading, 20)) != parent
    assert backend(hot) == parent
    os.close(reading)
    os.close(writing)
