"""What stops the start, and what the sentence says."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from app.common.errors import ConfigurationError
from app.config import load_settings
from app.config.nearest import nearest


def refused(**environ: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(environ=environ)
    return caught.value.detail


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("TASKYARD_CELRY__BROKER_URL", "TASKYARD_CELERY?"),
        ("TASKYARD_PLUGIN", "TASKYARD_PLUGINS?"),
        ("taskyard_celry__broker_url", "TASKYARD_CELERY?"),
        ("TASKYARD_CELERY__BROKER_ULR", "'celery.broker_url'?"),
        ("TASKYARD_AUTH__JWT__SECRT", "'auth.jwt.secret'?"),
        ("TASKYARD_AUTH__JTW__SECRET", "'auth.jwt'?"),
        ("TASKYARD_DATABASES__POSTGRES_MAIN__POOLSIZE", "'databases.postgres_main.pool_size'?"),
    ],
)
def test_an_unknown_variable_names_the_nearest(variable: str, near: str) -> None:
    assert near in refused(**{variable: "hunter2"})


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("srever: {port: 1}", "'server'?"),
        ("server: {prot: 1}", "'server.port'?"),
        ("auth: {jwt: {algoritm: x}}", "'auth.jwt.algorithm'?"),
        ("databases: {reports: {url: 'postgresql://h/d', ecko: 1}}", "'databases.reports.echo'?"),
    ],
)
@pytest.mark.parametrize("name", ["settings.yaml", "other.yaml"])
def test_an_unknown_key_in_a_file_names_the_nearest(text: str, near: str, name: str) -> None:
    Path(name).write_text(text)
    told = refused(**({"TASKYARD_CONFIG": name} if name == "other.yaml" else {}))
    assert "does not exist" in told
    assert near in told


def test_a_name_like_no_other_gets_no_advice() -> None:
    assert "Did you mean" not in refused(TASKYARD_QQQQQQ="1")
    assert nearest("zzz", ["celery", "server"]) is None
    assert nearest("serve", ["celery", "server"]) == "server"


@pytest.mark.parametrize("name", ["taskyard_servr__port", "TASKYARD_SERVR"])
def test_an_unknown_secret_file_is_refused(name: str) -> None:
    Path("secrets").mkdir()
    Path("secrets", name).write_text("hunter2")
    Path("secrets", "of_another_program").write_text("x")
    told = refused(TASKYARD_SECRETS_DIR="secrets")
    assert "TASKYARD_SERVER?" in told
    assert "hunter2" not in told


def test_secret_files_of_other_programs_do_not_matter() -> None:
    Path("secrets").mkdir()
    Path("secrets/of_another_program").write_text("x")
    Path("secrets/taskyard_server__port").write_text("77\n")
    assert load_settings(environ={"TASKYARD_SECRETS_DIR": "secrets"}).server.port == 77


def test_an_unknown_variable_in_dotenv_is_refused() -> None:
    Path(".env").write_text("TASKYARD_SERVR__PORT=1")
    assert "TASKYARD_SERVER?" in refused()


def test_variables_of_other_programs_and_of_the_client_are_left_alone() -> None:
    load_settings(
        environ={
            "PATH": "/bin",
            "TASKYARDS": "x",
            "TASKYARD_URL": "http://h",
            "TASKYARD_TOKEN": "t",
            "TASKYARD_TEST_POSTGRES_URL": "x",
        }
    )


@pytest.mark.parametrize(
    "environ",
    [
        {"TASKYARD_PLUGINS": "[hunter2"},
        {"TASKYARD_PLUGINS": "hunter2"},
        {"TASKYARD_DATABASES": "hunter2"},
        {"TASKYARD_LIMITS__ALLOWED_UPLOAD_TYPES": "hunter2,zip"},
        {"TASKYARD_SERVER__PORT": "hunter2"},
        {"TASKYARD_AUTH__JWT__ALGORITHM": "hunter2"},
        {"TASKYARD_DATABASES__POSTGRES_MAIN__URL": "oracle://u:hunter2@h/d"},
        {"TASKYARD_CELERY__BROKER_URL": "redis://u:hunter2@h"},
        {"TASKYARD_AUTH": '{"jwt": {"secret": ["hunter2"]}}'},
        {"DATABASE_URL": "hunter2"},
    ],
)
def test_a_wrong_value_names_its_key_and_is_not_shown(environ: dict[str, str]) -> None:
    told = refused(**environ)
    assert "hunter2" not in told
    (name,) = environ
    keys = {"DATABASE_URL": "databases.mysql_lint.url"}
    key = keys.get(name, name.removeprefix("TASKYARD_").lower().split("__")[0])
    assert key in told


def test_every_wrong_key_is_told_at_once() -> None:
    Path("settings.yaml").write_text("server: {port: x, workers: 0, hots: a}")
    told = refused()
    assert "server.port" in told
    assert "server.workers" in told
    assert "server.hots" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("auth:\n  jwt: {secret: hunter2, x: [}\n", "line 2"),
        ("a: 'hunter2\n", "cannot be read as YAML"),
        ("- hunter2\n", "must hold a map"),
        ("hunter2", "must hold a map"),
        ("5: hunter2\n", "must hold a map"),
        ("!!python/object/apply:os.getcwd []\n", "cannot be read as YAML"),
    ],
)
def test_a_file_that_is_no_map_is_refused_without_its_content(text: str, told: str) -> None:
    Path("settings.yaml").write_text(text)
    message = refused()
    assert "settings.yaml" in message
    assert told in message
    assert "hunter2" not in message


def test_a_file_that_is_no_text_is_refused() -> None:
    Path("settings.yaml").write_bytes(b"\xff\xfe")
    assert "settings.yaml" in refused()


def test_a_named_file_must_be_there() -> None:
    assert "'missing.yaml'" in refused(TASKYARD_CONFIG="missing.yaml")


@pytest.mark.parametrize("names", ["[a.yaml]", '["a.yaml", 7]', '["a.yaml"'])
def test_a_list_of_files_that_is_none_is_refused(names: str) -> None:
    assert "TASKYARD_CONFIG is no list of files" in refused(TASKYARD_CONFIG=names)


@pytest.mark.parametrize("content", [b"hunter2", b"[\xff"])
def test_a_secret_file_that_cannot_be_read_is_refused(content: bytes) -> None:
    Path("secrets").mkdir()
    Path("secrets/taskyard_plugins").write_bytes(content)
    told = refused(TASKYARD_SECRETS_DIR="secrets")
    assert "secrets" in told
    assert "hunter2" not in told


def test_settings_do_not_change() -> None:
    settings = load_settings(environ={})
    for model, field in ((settings, "data_dir"), (settings.server, "port")):
        with pytest.raises(ValidationError):
            setattr(model, field, getattr(model, field))


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("mysql://h/d", "mysql+aiomysql://h/d"),
        ("mysql+pymysql://h/d", "mysql+aiomysql://h/d"),
        ("mariadb://h/d", "mysql+aiomysql://h/d"),
        ("mariadb+aiomysql://h/d", "mariadb+aiomysql://h/d"),
        ("postgres://h/d", "postgresql+asyncpg://h/d"),
        ("postgresql+psycopg://h/d", "postgresql+asyncpg://h/d"),
        ("sqlite:///x.db", "sqlite+aiosqlite:///x.db"),
        ("postgresql+asyncpg://mysql://h/d", "postgresql+asyncpg://mysql://h/d"),
    ],
)
def test_the_driver_is_the_asynchronous_one(given: str, used: str) -> None:
    settings = load_settings(environ={"TASKYARD_DATABASES__REPORTS__URL": given})
    assert settings.databases["reports"].url.get_secret_value() == used


def test_what_settings_accept_the_databases_accept() -> None:
    from app.config.settings import _KNOWN_DATABASES
    from app.db.urls import parse_bind_url

    for start in _KNOWN_DATABASES:
        assert parse_bind_url("reports", f"{start}/h/d").bind == "reports"


def test_a_lease_outlives_a_beat_that_comes_late() -> None:
    environ = {"TASKYARD_CELERY__HEARTBEAT_SECONDS": "11", "TASKYARD_CELERY__LEASE_SECONDS": "20"}
    with pytest.raises(ConfigurationError, match="at most half of lease_seconds"):
        load_settings(environ=environ)
