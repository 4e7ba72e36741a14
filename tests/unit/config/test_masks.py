"""No secret is shown: not masked settings, not their rows, not a repr."""

import json
from pathlib import Path

import pytest

from app.config import load_settings
from app.config.loading import effective_settings, masked

SECRET = "hunter2"
ENVIRON = {
    "TASKYARD_DATABASES__POSTGRES_MAIN__URL": f"postgresql+asyncpg://app:{SECRET}@db:5432/app",
    "TASKYARD_DATABASES__MYSQL_LINT__URL": f"mysql://app:{SECRET}@db/lint?password={SECRET}",
    "TASKYARD_DATABASES__REPORTS__URL": f"postgresql://h/d?user=a&password={SECRET}",
    "TASKYARD_CELERY__BROKER_URL": f"amqp://app:{SECRET}@broker//",
    "TASKYARD_CELERY__RESULT_BACKEND": f"redis://:{SECRET}@cache/1",
    "TASKYARD_REDIS__URL": f"redis://:{SECRET}@cache/0",
    "TASKYARD_STORAGE__URL": f"s3://key:{SECRET}@bucket/prefix",
    "TASKYARD_AUTH__JWT__SECRET": SECRET * 8,
    "TASKYARD_AUTH__BOOTSTRAP_ADMIN": f"admin:{SECRET}",
    "TASKYARD_PLUGIN_SETTINGS": json.dumps({"mail": {"smtp": {"password": SECRET, "port": 25}}}),
}


def test_masked_settings_keep_what_is_no_secret() -> None:
    tree = masked(load_settings(environ=ENVIRON))
    assert SECRET not in json.dumps(tree)
    assert tree["databases"]["postgres_main"]["url"] == (
        "postgresql+asyncpg://app:**********@db:5432/app"
    )
    assert tree["databases"]["mysql_lint"]["url"] == "mysql+aiomysql://app:**********@db/lint"
    assert tree["databases"]["reports"]["url"] == "postgresql+asyncpg://h/d"
    assert tree["celery"]["broker_url"] == "amqp://app:**********@broker//"
    assert tree["celery"]["result_backend"] == "redis://:**********@cache/1"
    assert tree["redis"]["url"] == "redis://:**********@cache/0"
    assert tree["storage"]["url"] == "s3://key:**********@bucket/prefix"
    assert tree["auth"]["jwt"]["secret"] == "**********"
    assert tree["auth"]["bootstrap_admin"] == "**********"
    assert tree["auth"]["access_token_seconds"] == 900
    assert tree["plugin_settings"] == {"mail": {"smtp": {"password": "**********", "port": 25}}}


def test_what_is_not_set_is_shown_as_not_set() -> None:
    tree = masked(load_settings(environ={}))
    assert tree["auth"]["jwt"]["secret"] is None
    assert tree["auth"]["jwt"]["private_key_file"] is None
    assert tree["auth"]["bootstrap_admin"] is None
    assert tree["celery"]["result_backend"] is None
    assert tree["storage"]["url"] == "file://.taskyard/files"


@pytest.mark.parametrize(
    "names", ["u:hun/ter2@h", "u:hun?ter2@h", "u:h@unter2@h", "u:hun/t?er2@h", "u:hun#ter2@h"]
)
def test_a_password_that_is_badly_written_is_masked_too(names: str) -> None:
    environ = {"TASKYARD_DATABASES__REPORTS__URL": f"postgresql+asyncpg://{names}/d"}
    shown = masked(load_settings(environ=environ))["databases"]["reports"]["url"]
    assert "hun" not in shown
    assert "ter2" not in shown
    assert shown.startswith("postgresql+asyncpg://")


def test_an_at_sign_in_the_query_hides_no_host() -> None:
    environ = {"TASKYARD_DATABASES__REPORTS__URL": f"postgresql://u:{SECRET}@h/d?x=a@{SECRET}"}
    shown = masked(load_settings(environ=environ))["databases"]["reports"]["url"]
    assert shown == "postgresql+asyncpg://u:**********@h/d"


def test_the_rows_are_masked() -> None:
    rows = effective_settings(ENVIRON)
    assert SECRET not in repr(rows)
    assert len({row.key for row in rows}) == len(rows)
    by_key = {row.key: row for row in rows}
    assert by_key["auth.jwt.secret"].value == "**********"
    assert by_key["auth.jwt.secret"].origin == "environment"
    assert by_key["auth.jwt.issuer"].origin == "default"
    assert by_key["features"].value == {}


def test_a_repr_shows_no_secret() -> None:
    settings = load_settings(environ=ENVIRON)
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)
    assert SECRET not in repr(settings.auth)


def test_a_secret_file_becomes_a_secret(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/taskyard_auth__jwt__secret").write_text("x" * 40 + "\n")
    settings = load_settings(environ={"TASKYARD_SECRETS_DIR": "secrets"})
    assert settings.auth.jwt.secret is not None
    assert settings.auth.jwt.secret.get_secret_value() == "x" * 40
    assert "xxx" not in repr(settings)
