"""The services that tests talk to: where they are, and fresh databases and names on them.

A service is looked for at the URL in the environment and then at its standard port on this
machine. `make test` (scripts/run_tests.py) can start the missing ones and passes their URLs on in
the same variables, so this module never starts anything.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import amqp
import psycopg
import pymysql
import pytest
import redis
from sqlalchemy.engine import URL, make_url

from app.celery_worker.delays import LADDER_SECONDS

CONNECT_SECONDS = 3

ENVIRONMENT = {
    "postgres": "TASKYARD_TEST_POSTGRES_URL",
    "mysql": "TASKYARD_TEST_MYSQL_URL",
    "redis": "TASKYARD_TEST_REDIS_URL",
    "amqp": "TASKYARD_TEST_AMQP_URL",
}

# The credentials that a fresh local installation has: trust or the image's own default.
STANDARD_URLS = {
    "postgres": (
        "postgresql://postgres@127.0.0.1:5432/postgres",
        "postgresql://postgres:postgres@127.0.0.1:5432/postgres",
        "postgresql:///postgres?host=/var/run/postgresql",
    ),
    "mysql": (
        "mysql://root@127.0.0.1:3306",
        "mysql://root@localhost/?unix_socket=/run/mysqld/mysqld.sock",
    ),
    "redis": ("redis://127.0.0.1:6379/0",),
    "amqp": ("amqp://guest:guest@127.0.0.1:5672//",),
}


@dataclass(frozen=True)
class Found:
    """A service that answered: its URL, its name with version, and how it was found."""

    url: str
    version: str
    source: str


@dataclass(frozen=True)
class Missing:
    """A service that did not answer, and why."""

    reason: str


def find_service(name: str) -> Found | Missing:
    """The service at the URL from the environment, else at its standard port.

    A URL from the environment that does not answer is not replaced by another service: whoever
    named it wants the tests to run there.
    """
    if given := os.environ.get(ENVIRONMENT[name]):
        return _first_answer(name, (given,), source=ENVIRONMENT[name])
    return _first_answer(name, STANDARD_URLS[name], source="standard port")


def find_services() -> dict[str, Found | Missing]:
    """All four services by name."""
    return {name: find_service(name) for name in ENVIRONMENT}


def _first_answer(name: str, urls: tuple[str, ...], *, source: str) -> Found | Missing:
    reasons = []
    for url in urls:
        try:
            return Found(url, _PROBES[name](url), source)
        except Exception as error:  # noqa: BLE001 - four drivers have no common error class
            reasons.append(f"{_safe(url)}: {_one_line(error)}")
    return Missing("; ".join(reasons))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:100] or type(error).__name__


def _safe(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)


def _postgres(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql")
    return psycopg.connect(
        plain.render_as_string(hide_password=False),
        autocommit=True,
        connect_timeout=CONNECT_SECONDS,
    )


def _mysql(url: str) -> pymysql.connections.Connection:
    parts = make_url(url)
    socket = parts.query.get("unix_socket")
    return pymysql.connect(
        host=parts.host or "127.0.0.1",
        port=parts.port or 3306,
        user=parts.username or "root",
        password=parts.password or "",
        unix_socket=socket if isinstance(socket, str) else None,
        connect_timeout=CONNECT_SECONDS,
        autocommit=True,
    )


def _amqp(url: str) -> Any:  # the stubs of `amqp` lack what a connection has once it is open
    parts = make_url(url)
    connection = amqp.Connection(
        host=f"{parts.host}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        virtual_host=unquote(parts.database or "") or "/",
        connect_timeout=CONNECT_SECONDS,
    )
    connection.connect()
    return connection


def _probe_postgres(url: str) -> str:
    with closing(_postgres(url)) as connection:
        row = connection.execute("SHOW server_version").fetchone()
    return f"PostgreSQL {row[0].split()[0] if row else 'of unknown version'}"


def _probe_mysql(url: str) -> str:
    with closing(_mysql(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        (version,) = cursor.fetchone()
    product = "MariaDB" if "mariadb" in version.lower() else "MySQL"
    return f"{product} {version.split('-')[0]}"


def _probe_redis(url: str) -> str:
    client = redis.Redis.from_url(
        url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS
    )
    with closing(client):
        return f"Redis {client.info('server')['redis_version']}"


def _probe_amqp(url: str) -> str:
    with closing(_amqp(url)) as connection:
        properties = connection.server_properties
    return f"{properties.get('product', 'AMQP')} {properties.get('version', '')}".strip()


_PROBES: dict[str, Callable[[str], str]] = {
    "postgres": _probe_postgres,
    "mysql": _probe_mysql,
    "redis": _probe_redis,
    "amqp": _probe_amqp,
}


@dataclass
class Services:
    """Fresh databases, a Redis namespace and broker names that belong to this test process.

    A service is looked for when a test first asks for it. Without it the test is skipped with the
    reason, or fails when `CI` is `true`.
    """

    token: str = field(default_factory=lambda: secrets.token_hex(4))
    # Queue classes that tests declare; all queues of each are deleted at the end.
    queue_classes: set[str] = field(
        default_factory=lambda: {"default", "lint", "lint_batch", "archive"}
    )
    _found: dict[str, Found | Missing] = field(default_factory=dict)
    _urls: dict[str, str] = field(default_factory=dict)
    _databases: list[tuple[str, str]] = field(default_factory=list)

    @property
    def postgres_url(self) -> str:
        """`postgresql+asyncpg://…` of a database that was empty when the session began."""
        if "postgres" not in self._urls:
            self._urls["postgres"] = self.create_database("postgres")
        return self._urls["postgres"]

    @property
    def mysql_url(self) -> str:
        """`mysql+aiomysql://…` of a database that was empty when the session began."""
        if "mysql" not in self._urls:
            self._urls["mysql"] = self.create_database("mysql")
        return self._urls["mysql"]

    @property
    def redis_url(self) -> str:
        """The Redis URL; keep every key below `redis_namespace`."""
        return self.require("redis").url

    @property
    def redis_namespace(self) -> str:
        return f"taskyard-test-{self.token}"

    @property
    def amqp_url(self) -> str:
        """The broker's URL; declare names only with `namespace` and `queue_prefix`."""
        return self.require("amqp").url

    @property
    def namespace(self) -> str:
        """Name of the exchange; `<namespace>.dlx` and `.events` belong to it."""
        return f"taskyard-test-{self.token}"

    @property
    def queue_prefix(self) -> str:
        return f"{self.namespace}."

    def require(self, name: str) -> Found:
        """The service, or the end of the test: skipped, failed under CI."""
        found = self._found.setdefault(name, find_service(name))
        if isinstance(found, Found):
            return found
        message = f"{name} is not here ({found.reason})"
        if os.environ.get("CI") == "true":
            pytest.fail(message, pytrace=False)
        pytest.skip(message)

    def create_database(self, name: str) -> str:
        """The async URL of one more empty database ("postgres" or "mysql"), dropped at the end."""
        database = f"taskyard_test_{self.token}_{len(self._databases)}"
        server = self.require(name).url
        if name == "postgres":
            with closing(_postgres(server)) as connection:
                connection.execute(f'CREATE DATABASE "{database}"')
        else:
            with closing(_mysql(server)) as connection, connection.cursor() as cursor:
                cursor.execute(f"CREATE DATABASE `{database}` CHARACTER SET utf8mb4")
        self._databases.append((name, database))
        return _async_url(server, database)

    def environment(self) -> dict[str, str]:
        """Variables that make a Taskyard process use these services.

        Storage, keys and the first administrator are for the test to set.
        """
        return {
            "TASKYARD_DATABASES__POSTGRES_MAIN__URL": self.postgres_url,
            "TASKYARD_DATABASES__MYSQL_LINT__URL": self.mysql_url,
            "TASKYARD_CELERY__BROKER_URL": self.amqp_url,
            "TASKYARD_CELERY__NAMESPACE": self.namespace,
            "TASKYARD_CELERY__QUEUE_PREFIX": self.queue_prefix,
            "TASKYARD_REDIS__URL": self.redis_url,
            "TASKYARD_REDIS__NAMESPACE": self.redis_namespace,
        }

    def close(self) -> None:
        """Drop what was created; a service that went away meanwhile is left alone."""
        for name, database in self._databases:
            self._drop_database(name, database)
        if isinstance(self._found.get("redis"), Found):
            self._delete_redis_keys()
        if isinstance(self._found.get("amqp"), Found):
            self._delete_broker_names()

    def _drop_database(self, name: str, database: str) -> None:
        server = self.require(name).url
        if name == "postgres":
            with closing(_postgres(server)) as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
            return
        with closing(_mysql(server)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS `{database}`")

    def _delete_redis_keys(self) -> None:
        with closing(redis.Redis.from_url(self.redis_url)) as client:
            for key in client.scan_iter(match=f"{self.redis_namespace}*", count=1000):
                client.delete(key)

    def _delete_broker_names(self) -> None:
        """Delete by name, which is no error for a queue that is not there."""
        with closing(_amqp(self.amqp_url)) as connection, connection.channel() as channel:
            for name in self._queue_names():
                channel.queue_delete(name)
            for suffix in ("", ".dlx", ".events"):
                channel.exchange_delete(f"{self.namespace}{suffix}")

    def _queue_names(self) -> Iterator[str]:
        for queue_class in sorted(self.queue_classes):
            name = f"{self.queue_prefix}{queue_class}"
            yield f"{name}.dlq"
            for work_queue in (name, f"{name}.high", f"{name}.low"):
                yield work_queue
                for seconds in LADDER_SECONDS:
                    for turn in range(4):
                        yield f"{work_queue}.delay.{round(seconds * 1000)}.{turn}"


def _async_url(server: str, database: str) -> str:
    parts: URL = make_url(server)
    driver = "mysql+aiomysql" if parts.drivername.startswith("m") else "postgresql+asyncpg"
    return parts.set(drivername=driver, database=database).render_as_string(hide_password=False)


@contextmanager
def open_services() -> Iterator[Services]:
    services = Services()
    try:
        yield services
    finally:
        services.close()
