"""`--data-dir` and the embedded form."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from app.common.errors import ConfigurationError
from app.config import Settings, load_settings

REAL = {
    "TASKYARD_DATABASES__POSTGRES_MAIN__URL": "postgresql+asyncpg://u:p@h/d",
    "TASKYARD_DATABASES__MYSQL_LINT__URL": "mysql+aiomysql://u:p@h/d",
    "TASKYARD_CELERY__BROKER_URL": "amqp://u:p@h//",
    "TASKYARD_CELERY__RESULT_BACKEND": "redis://h",
    "TASKYARD_REDIS__URL": "redis://h",
    "TASKYARD_STORAGE__URL": "file:///mnt/share",
}


def urls(settings: Settings) -> list[str | None]:
    found = [
        *(settings.databases[bind].url for bind in ("postgres_main", "mysql_lint")),
        settings.celery.broker_url,
        settings.celery.result_backend,
        settings.redis.url,
        settings.storage.url,
    ]
    return [url.get_secret_value() if isinstance(url, SecretStr) else url for url in found]


def embedded_below(folder: str) -> list[str | None]:
    return [
        f"sqlite+aiosqlite:///{folder}/app.db",
        f"sqlite+aiosqlite:///{folder}/lint.db",
        "inproc://",
        None,
        "memory://",
        f"file://{folder}/files",
    ]


def test_the_defaults_are_the_embedded_form() -> None:
    settings = load_settings(environ={})
    assert urls(settings) == embedded_below(".taskyard")
    assert settings.data_dir == Path(".taskyard")
    assert settings.is_embedded


@pytest.mark.parametrize("folder", ["/srv/yard", "data", "a/.taskyard/b"])
def test_the_data_folder_takes_the_place_of_the_default(folder: str) -> None:
    settings = load_settings(data_dir=Path(folder), environ={})
    assert urls(settings) == embedded_below(folder)
    assert settings.data_dir == Path(folder)
    by_setting = load_settings(environ={"TASKYARD_DATA_DIR": folder})
    assert urls(by_setting) == embedded_below(folder)


def test_the_argument_wins_over_the_setting() -> None:
    settings = load_settings(data_dir=Path("a"), environ={"TASKYARD_DATA_DIR": "b"})
    assert settings.data_dir == Path("a")


def test_urls_that_are_set_stay_where_they_are() -> None:
    settings = load_settings(data_dir=Path("/srv"), environ=REAL)
    assert urls(settings) == list(REAL.values())
    assert not settings.is_embedded


def test_embedded_wins_over_every_source() -> None:
    Path("settings.yaml").write_text("storage: {url: 's3://bucket'}")
    settings = load_settings(data_dir=Path("/srv"), embedded=True, environ=REAL)
    assert urls(settings) == embedded_below("/srv")
    assert settings.is_embedded


def test_embedded_leaves_the_rest_as_it_is_set() -> None:
    environ = {
        "TASKYARD_DATABASES__POSTGRES_MAIN__POOL_SIZE": "9",
        "TASKYARD_DATABASES__REPORTS__URL": "postgresql://h/d",
        "TASKYARD_CELERY__CONCURRENCY": "7",
    }
    settings = load_settings(embedded=True, environ=environ)
    assert settings.databases["postgres_main"].pool_size == 9
    assert settings.databases["reports"].url.get_secret_value() == "postgresql+asyncpg://h/d"
    assert settings.celery.concurrency == 7


@pytest.mark.parametrize("text", ["data_dir: 5", "data_dir: null", "data_dir: [a]"])
def test_a_data_folder_that_is_no_path_is_refused(text: str) -> None:
    Path("settings.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match="data_dir"):
        load_settings(environ={})


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize(
    ("text", "key"),
    [("storage: s3://bucket", "storage"), ("databases: [a]", "databases"), ("redis: 5", "redis")],
)
def test_a_section_that_is_no_map_is_refused_not_replaced(
    text: str, key: str, embedded: bool
) -> None:
    Path("settings.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=f"'{key}' is wrong"):
        load_settings(embedded=embedded, environ={})
