"""The kit's servers, one set for a test process, and an installation that tests share."""

from collections.abc import Iterator

import pytest

from tests.integration.faults import nodes
from tests.integration.faults.nodes import Kit, Mysql, Postgres, Rabbit, Redis
from tests.integration.faults.stack import Stack


@pytest.fixture(scope="session")
def kit() -> Iterator[Kit]:
    nodes.require("postgres", "amqp")
    with Kit() as opened:
        yield opened


@pytest.fixture(scope="session")
def postgres(kit: Kit) -> Postgres:
    node = Postgres(kit)
    node.start()
    return node


@pytest.fixture(scope="session")
def broker(kit: Kit) -> Rabbit:
    node = Rabbit(kit)
    node.start()
    return node


@pytest.fixture(scope="session")
def mysql(kit: Kit) -> Mysql:
    nodes.require("mysql")
    node = Mysql(kit)
    node.start()
    return node


@pytest.fixture(scope="session")
def redis_node(kit: Kit) -> Redis:
    nodes.require("redis")
    node = Redis(kit)
    node.start()
    return node


@pytest.fixture(scope="module")
def stack(kit: Kit, postgres: Postgres, broker: Rabbit) -> Iterator[Stack]:
    """Two workers with two children each, a beat and the API, with short times."""
    opened = Stack(kit, postgres, broker_url=broker.url)
    try:
        opened.start()
        yield opened
    finally:
        opened.end()


@pytest.fixture(autouse=True)
def _begin_empty(request: pytest.FixtureRequest) -> None:
    """Give a test that uses the shared installation empty tables."""
    if "stack" in request.fixturenames:
        stack: Stack = request.getfixturevalue("stack")
        stack.await_all_ended()
        stack.forget()
