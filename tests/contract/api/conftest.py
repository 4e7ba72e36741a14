from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.common.logging import configure_logging
from tests.contract.api.harness import (
    Api,
    Recorder,
    build,
    embedded_settings,
    make_callers,
    migrate,
)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """One application for the tests of a file; each test makes the runs that it looks at.

    It ends with the file: its tokens expire, and its event loop shares the process with whatever
    other tests do there.
    """
    configure_logging("CRITICAL", "json")
    settings = embedded_settings(tmp_path_factory.mktemp("api"))
    migrate(settings)
    transport = Recorder()
    app, services = build(settings, transport)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.portal is not None
        tokens = client.portal.call(make_callers, services)
        yield Api(app, client, settings, transport, tokens)
