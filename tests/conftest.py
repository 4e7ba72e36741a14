"""Fixtures that every test may use. Fixtures of one room live beside its tests."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.services import ENVIRONMENT, Services, open_services

# The older variable names that the settings honour (CONTRACT: settings).
OLDER_NAMES = (
    "DATABASE_URL",
    "CELERY_BROKER_URL",
    "CELERY_RESULT_BACKEND",
    "NFS_SHARE_ROOT_PATH",
    "CONSUL_HOST",
    "CONSUL_PORT",
    "MAX_UPLOAD_SIZE_MB",
    "ALLOWED_UPLOAD_TYPES",
    "SQL_EXECUTION_TIMEOUT",
    "SQL_MAX_RESULT_ROWS",
)

# No deadline: a slow machine is no failure.
settings.register_profile("taskyard", deadline=None, print_blob=True)
settings.load_profile("taskyard")


def pytest_configure() -> None:
    """Forget the settings of the person who runs the tests; they must not change a result."""
    for name in tuple(os.environ):
        is_ours = name.startswith("TASKYARD_") and name not in ENVIRONMENT.values()
        if is_ours or name in OLDER_NAMES:
            del os.environ[name]


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Fresh databases and names on the real services, one set for each test process."""
    with open_services() as opened:
        yield opened


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Name long binary cases by their size.

    Archives hold the time they were made at, and test processes that name one case differently
    cannot share the work.
    """
    if isinstance(val, bytes) and len(val) > 24:
        return f"{argname}_{len(val)}_bytes"
    return None
