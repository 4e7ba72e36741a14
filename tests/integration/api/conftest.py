from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from app.common.logging import configure_logging
from app.config.loading import load_settings
from tests.contract.api.harness import SAMPLE, Api, Recorder, build, make_callers, migrate
from tests.services import Services


@pytest.fixture(scope="session")
def api(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The application on the real databases and the real cache."""
    configure_logging("CRITICAL", "json")
    folder = tmp_path_factory.mktemp("real")
    environ = {
        "TASKYARD_PLUGINS": f'["lint", "{SAMPLE}"]',
        "TASKYARD_SECRETS_DIR": str(folder / "none"),
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": services.postgres_url,
        "TASKYARD_DATABASES__MYSQL_LINT__URL": services.mysql_url,
        "TASKYARD_REDIS__URL": services.redis_url,
    }
    settings = load_settings(data_dir=folder, environ=environ)
    migrate(settings)
    transport = Recorder()
    app, parts = build(settings, transport)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.portal is not None
        tokens = client.portal.call(make_callers, parts)
        yield Api(app, client, settings, transport, tokens)
