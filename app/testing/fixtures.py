"""Fixtures for the tests of plugins; in the top conftest.py write

pytest_plugins = ["app.testing.fixtures"]
"""

from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from app.config.plugins import Plugin
from app.testing.kit import Kit, open_kit

if TYPE_CHECKING:
    from app.testing.http import Http


@pytest.fixture(scope="session")
def taskyard_plugins() -> Sequence[Plugin | ModuleType | str]:
    """The plugins under test: a fixture of this name in your conftest.py takes its place."""
    message = (
        "The fixture 'kit' does not know your plugin. Add to conftest.py:\n\n"
        "    @pytest.fixture(scope='session')\n"
        "    def taskyard_plugins():\n"
        "        return ['my_plugin']\n"
    )
    pytest.fail(message, pytrace=False)


@pytest.fixture
def taskyard_settings() -> Mapping[str, Any]:
    """The settings of the kit, as in settings.yaml; replace it in your conftest.py or in a test."""
    return {}


@pytest.fixture
def kit(
    taskyard_plugins: Sequence[Plugin | ModuleType | str], taskyard_settings: Mapping[str, Any]
) -> Iterator[Kit]:
    """Everything that a task needs, in memory, on a clock that stands still."""
    with open_kit(*taskyard_plugins, settings=taskyard_settings) as opened:
        yield opened


@pytest.fixture
def http(kit: Kit) -> "Iterator[Http]":
    """The HTTP API over the kit: `http.get("/api/v1/…")`."""
    from app.testing.http import open_http  # noqa: PLC0415 - loads FastAPI, for those who ask

    with open_http(kit) as opened:
        yield opened
