"""`taskyard doctor` on real services: each fault is caused and then found."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from app.celery_worker import connections
from app.celery_worker.diagnosis import check_broker
from app.celery_worker.topology import Topology
from app.common.clock import clock_from
from app.common.findings import Finding
from app.config.settings import CelerySettings
from app.db import Databases
from app.db.diagnosis import check_databases
from app.db.types import db_now_plus
from app.redis.diagnosis import check_redis
from app.tasks.agenda import DUTY
from app.tasks.diagnosis import check_rows
from app.tasks.models import Lease
from tests.harness import migrate, settings_on
from tests.services import Services

CLASSES = ("doctor",)


@pytest.fixture
def celery(services: Services) -> CelerySettings:
    services.queue_classes.add("doctor")
    return CelerySettings.model_validate(
        {
            "broker_url": services.amqp_url,
            "namespace": services.namespace,
            "queue_prefix": services.queue_prefix,
        }
    )


@pytest.fixture
def channel(celery: CelerySettings) -> Iterator[Any]:
    connection: Any = connections.open_connection(
        celery.broker_url.get_secret_value(), timeout_seconds=5
    )
    topology = Topology.of(celery)
    opened = connection.channel()
    yield opened
    opened.close()  # Its consumers end with it.
    opened = connection.channel()
    for name in (*topology.work_queue_names("doctor"), topology.dead_letter_queue_name("doctor")):
        opened.queue_delete(name)
    connection.close()


def examine(celery: CelerySettings, longest: float = 300) -> dict[str, Finding]:
    return {one.check: one for one in check_broker(celery, CLASSES, longest)}


def declare(channel: Any, celery: CelerySettings) -> None:
    connections.declare(channel.connection.client, Topology.of(celery), CLASSES)


def put(channel: Any, queue: str) -> None:
    channel.confirm_select()
    channel.basic_publish_confirm(channel.prepare_message(b"{}"), exchange="", routing_key=queue)


def test_what_is_not_declared_yet_is_named_and_not_declared(
    celery: CelerySettings, channel: Any
) -> None:
    found = examine(celery)
    assert found["broker"].level == found["broker alarm"].level == "ok"
    assert "RabbitMQ" in found["broker"].what
    assert found["topology"].level == "warn"
    assert f"{celery.queue_prefix}doctor.dlq" in found["topology"].what
    assert examine(celery)["topology"].level == "warn"


def test_a_declared_topology_without_workers(celery: CelerySettings, channel: Any) -> None:
    declare(channel, celery)
    found = examine(celery)
    assert found["topology"].level == "ok"
    assert found["queue doctor"].level == "warn"
    assert found["queue doctor"].fix == "taskyard worker --queues doctor"
    assert "dead letters doctor" not in found


def test_messages_that_nobody_takes(celery: CelerySettings, channel: Any) -> None:
    declare(channel, celery)
    put(channel, f"{celery.queue_prefix}doctor.low")
    put(channel, f"{celery.queue_prefix}doctor.dlq")
    found = examine(celery)
    assert (found["queue doctor"].level, found["queue doctor"].what) == (
        "fail",
        "1 messages and no worker",
    )
    assert found["dead letters doctor"].what.startswith("1 messages lie in ")


def test_a_queue_that_somebody_else_declared(celery: CelerySettings, channel: Any) -> None:
    name = f"{celery.queue_prefix}doctor"
    channel.queue_declare(name, durable=True, auto_delete=False)
    found = [one for one in check_broker(celery, CLASSES, 300) if one.level == "fail"]
    (fault,) = found
    assert f"'{name}' was declared differently" in fault.what
    assert "inequivalent arg" in fault.what
    assert fault.fix == f"rabbitmqctl delete_queue {name}"


def test_a_consumer_makes_a_queue_good(celery: CelerySettings, channel: Any) -> None:
    declare(channel, celery)
    for name in Topology.of(celery).work_queue_names("doctor"):
        channel.basic_consume(name, callback=lambda message: None)
    assert examine(celery)["queue doctor"].what == "0 messages, 1 workers"


def test_a_task_that_outlives_the_consumer_timeout(celery: CelerySettings) -> None:
    found = examine(celery, longest=7200)["consumer timeout"]
    assert found.level == "warn"
    assert "consumer_timeout, 10800000" in found.fix


def test_a_broker_that_is_away(celery: CelerySettings) -> None:
    gone = celery.model_validate(
        {"broker_url": "amqp://joe:hunter2@127.0.0.1:9//", "publish_timeout_seconds": 1}
    )
    found = examine(gone)["broker"]
    assert (found.level, found.unavailable) == ("fail", True)
    assert "127.0.0.1:9" in found.what
    assert "hunter2" not in found.what


@pytest.fixture
def databases(services: Services, tmp_path: Path) -> Iterator[Databases]:
    settings = settings_on(
        tmp_path,
        postgres_url=services.create_database("postgres"),
        TASKYARD_DATABASES__MYSQL_LINT__URL=services.create_database("mysql"),
    )
    migrate(settings)
    opened = Databases(settings.databases)
    yield opened
    opened.dispose_sync()


def test_databases_tell_version_and_clock(databases: Databases) -> None:
    found = {one.check: one for one in check_databases(databases, ())}
    assert found["database postgres_main"].what.startswith("PostgreSQL ")
    assert found["database mysql_lint"].what.startswith(("MariaDB ", "MySQL "))
    assert {one.level for one in found.values()} == {"ok"}
    assert set(found) >= {"clock postgres_main", "clock mysql_lint", "migrations"}


def test_a_clock_that_is_wrong(databases: Databases) -> None:
    with clock_from(lambda: datetime.now(UTC) + timedelta(seconds=90)):
        found = {one.check: one for one in check_databases(databases, ())}
    assert found["clock postgres_main"].level == found["clock mysql_lint"].level == "warn"
    assert found["clock postgres_main"].what.startswith(("-90", "-89"))


def test_beat_is_alive_while_its_lease_is(databases: Databases) -> None:
    def beat() -> Finding:
        return next(one for one in check_rows(databases, is_embedded=False) if one.check == "beat")

    assert (beat().level, beat().what) == ("fail", "no beat is alive: it has never run")
    values = {"name": DUTY, "holder": "machine:17:abc", "term": 1}
    with databases.sync_begin("postgres_main") as connection:
        connection.execute(sa.insert(Lease).values(**values, expires_at=db_now_plus(30.0)))
    assert (beat().level, beat().what) == ("ok", "led by machine:17")
    with databases.sync_begin("postgres_main") as connection:
        connection.execute(sa.update(Lease).values(expires_at=db_now_plus(-1.0)))
    assert "last seen at" in beat().what


def test_redis_tells_its_version(services: Services, tmp_path: Path) -> None:
    settings = settings_on(tmp_path, TASKYARD_REDIS__URL=services.redis_url)
    found = list(check_redis(settings.redis))
    assert found[0].level == "ok"
    assert found[0].what.startswith("Redis ")
