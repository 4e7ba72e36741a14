"""Which source wins, and where each value is said to come from."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from app.config import load_settings
from app.config.loading import effective_settings

SOURCES = (
    "environment",
    "environment (older name)",
    ".env",
    ".env (older name)",
    "secret files",
    "second.yaml",
    "first.yaml",
    "settings.yaml",
    "default",
)


def write_sources(count: int) -> dict[str, str]:
    """Give `limits.max_upload_mb` in every source from the given one on; return the environment."""
    sources = set(SOURCES[count:])
    environ = {"TASKYARD_CONFIG": "first.yaml, second.yaml", "TASKYARD_SECRETS_DIR": "secrets"}
    number = {name: 1000 + index for index, name in enumerate(SOURCES)}
    if "environment" in sources:
        environ["TASKYARD_LIMITS__MAX_UPLOAD_MB"] = str(number["environment"])
    if "environment (older name)" in sources:
        environ["MAX_UPLOAD_SIZE_MB"] = str(number["environment (older name)"])
    lines = []
    if ".env" in sources:
        lines.append(f"TASKYARD_LIMITS__MAX_UPLOAD_MB={number['.env']}")
    if ".env (older name)" in sources:
        lines.append(f"MAX_UPLOAD_SIZE_MB={number['.env (older name)']}")
    Path(".env").write_text("\n".join([*lines, "SOMETHING_ELSE=1", "WITHOUT_VALUE"]))
    Path("secrets").mkdir()
    if "secret files" in sources:
        Path("secrets/taskyard_limits__max_upload_mb").write_text(f"{number['secret files']}\n")
    for name in ("second.yaml", "first.yaml", "settings.yaml"):
        text = f"limits: {{max_upload_mb: {number[name]}}}" if name in sources else "# nothing"
        Path(name).write_text(text)
    return environ


@pytest.mark.parametrize("index", range(len(SOURCES)))
def test_the_first_source_that_has_a_value_wins(index: int) -> None:
    environ = write_sources(index)
    wanted = 100 if SOURCES[index] == "default" else 1000 + index
    assert load_settings(environ=environ).limits.max_upload_mb == wanted
    (row,) = [row for row in effective_settings(environ) if row.key == "limits.max_upload_mb"]
    assert (row.value, row.origin) == (wanted, SOURCES[index])


def test_sources_are_merged_key_by_key() -> None:
    Path("settings.yaml").write_text("server: {port: 1, host: a}\nlimits: {max_upload_mb: 7}")
    settings = load_settings(environ={"TASKYARD_SERVER__PORT": "2"})
    assert (settings.server.port, settings.server.host) == (2, "a")
    assert settings.limits.max_upload_mb == 7


def test_lists_are_replaced_not_joined() -> None:
    Path("settings.yaml").write_text("plugins: [archive, lint]")
    settings = load_settings(environ={"TASKYARD_PLUGINS": '["mine"]'})
    assert settings.plugins == ("mine",)


def test_maps_and_nesting_come_from_the_environment() -> None:
    settings = load_settings(
        environ={
            "TASKYARD_FEATURES": '{"one": true}',
            "TASKYARD_FEATURES__TWO": "false",
            "TASKYARD_PLUGIN_SETTINGS__LINT__DEFAULT_DIALECT": "mysql",
            "TASKYARD_DATABASES__REPORTS__URL": "postgresql://h/d",
            "TASKYARD_DATABASES__REPORTS__POOL_SIZE": "3",
            "taskyard_server__port": "81",
        }
    )
    assert settings.features == {"one": True, "two": False}
    assert settings.plugin_settings == {"lint": {"default_dialect": "mysql"}}
    assert settings.databases["reports"].pool_size == 3
    assert set(settings.databases) == {"reports", "postgres_main", "mysql_lint"}
    assert settings.server.port == 81


def test_the_files_can_be_named_in_dotenv() -> None:
    Path("extra.yaml").write_text("server: {port: 99}")
    Path(".env").write_text("TASKYARD_CONFIG=extra.yaml")
    assert load_settings(environ={}).server.port == 99


@pytest.mark.parametrize("names", ["first.yaml, second.yaml", '["first.yaml", "second.yaml"]'])
def test_the_files_are_named_by_commas_or_as_a_list(names: str) -> None:
    Path("first.yaml").write_text("server: {port: 1, workers: 3}")
    Path("second.yaml").write_text("server: {port: 2}")
    server = load_settings(environ={"TASKYARD_CONFIG": names}).server
    assert (server.port, server.workers) == (2, 3)


def test_a_value_that_is_none_is_one() -> None:
    Path("settings.yaml").write_text("celery: {result_backend: 'redis://h'}")
    Path("more.yaml").write_text("celery: {result_backend: null}")
    assert load_settings(environ={"TASKYARD_CONFIG": "more.yaml"}).celery.result_backend is None


OLDER: list[tuple[Mapping[str, str], str, object]] = [
    ({"DATABASE_URL": "mysql+pymysql://u:p@h/d"}, "databases.mysql_lint.url", "mysql+aiomysql://"),
    ({"CELERY_BROKER_URL": "amqp://u:p@h//"}, "celery.broker_url", "amqp://u:"),
    ({"CELERY_RESULT_BACKEND": "redis://h/1"}, "celery.result_backend", "redis://h/1"),
    ({"NFS_SHARE_ROOT_PATH": "/mnt/share"}, "storage.url", "file:///mnt/share"),
    ({"NFS_SHARE_ROOT_PATH": "s3://bucket/x"}, "storage.url", "s3://bucket/x"),
    ({"CONSUL_HOST": "consul"}, "consul.host", "consul"),
    ({"CONSUL_PORT": "8501"}, "consul.port", 8501),
    ({"MAX_UPLOAD_SIZE_MB": "7"}, "limits.max_upload_mb", 7),
    ({"ALLOWED_UPLOAD_TYPES": ".SQL, zip,"}, "limits.allowed_upload_types", ["sql", "zip"]),
    ({"SQL_EXECUTION_TIMEOUT": "2.5"}, "limits.sql_execution_timeout_seconds", 2.5),
    ({"SQL_MAX_RESULT_ROWS": "9"}, "limits.sql_max_result_rows", 9),
]


@pytest.mark.parametrize(("environ", "key", "wanted"), OLDER)
def test_the_older_names_still_work(environ: Mapping[str, str], key: str, wanted: object) -> None:
    (row,) = [row for row in effective_settings(environ) if row.key == key]
    assert row.origin == "environment (older name)"
    if isinstance(wanted, str):
        assert str(row.value).startswith(wanted)
    else:
        assert row.value == wanted


def test_an_empty_older_name_says_nothing() -> None:
    assert load_settings(environ={"MAX_UPLOAD_SIZE_MB": ""}).limits.max_upload_mb == 100


def test_older_names_replace_only_what_they_name() -> None:
    Path("settings.yaml").write_text("databases: {mysql_lint: {pool_size: 9}}")
    settings = load_settings(environ={"DATABASE_URL": "mysql://h/d"})
    lint = settings.databases["mysql_lint"]
    assert (lint.pool_size, lint.url.get_secret_value()) == (9, "mysql+aiomysql://h/d")


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKYARD_SERVER__PORT", "4321")
    assert load_settings().server.port == 4321
    assert {row.key: row.value for row in effective_settings()}["server.port"] == 4321
