"""The commands on the host with PostgreSQL and MariaDB or MySQL behind them."""

from collections.abc import Callable
from pathlib import Path

import jwt
import pytest

from tests.services import Services
from tests.unit.cli.commands import Outcome, run_program

UNITS = {("core", "postgres_main"), ("lint", "mysql_lint")}
SECRET = "k" * 64


@pytest.fixture
def taskyard(services: Services, tmp_path: Path) -> Callable[..., Outcome]:
    """The command line with two new databases."""
    settings = {
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": services.create_database("postgres"),
        "TASKYARD_DATABASES__MYSQL_LINT__URL": services.create_database("mysql"),
        "TASKYARD_CELERY__BROKER_URL": "amqp://nobody:hunter2@127.0.0.1:1//",
        "TASKYARD_AUTH__JWT__SECRET": SECRET,
        "TASKYARD_PLUGINS": '["lint"]',
    }

    def call(*arguments: str, **more: str) -> Outcome:
        return run_program(*arguments, cwd=tmp_path, **settings | more)

    return call


def test_migrating_forth_and_back(taskyard: Callable[..., Outcome]) -> None:
    before = taskyard("db", "status").document
    assert {(unit["owner"], unit["bind"]) for unit in before} == UNITS
    assert all(unit["pending"] for unit in before)
    assert taskyard("db", "check").code == 1

    steps = taskyard("db", "upgrade")
    assert steps.code == 0, steps.err
    assert all(step["after"] for step in steps.document)
    checked = taskyard("db", "check")
    assert checked.code == 0, checked.out
    assert not any(unit["pending"] for unit in taskyard("db", "status").document)

    back = taskyard("db", "downgrade", "--owner", "lint", "--to", "base", "--yes")
    assert [step["owner"] for step in back.document] == ["lint"]
    pending = [unit["owner"] for unit in taskyard("db", "status").document if unit["pending"]]
    assert pending == ["lint"]


def test_a_user_and_a_token_without_broker_and_cache(taskyard: Callable[..., Outcome]) -> None:
    assert taskyard("token").code == 5
    taskyard("db", "upgrade", "--owner", "core")
    made = taskyard(
        *("users", "create", "ada", "--role", "admin", "--password-stdin"),
        standard_input="a long enough password",
    )
    assert made.code == 0, made.err
    token = taskyard("token", "--username", "ada", "--expires-in", "60")
    claims = jwt.decode(token.out.strip(), SECRET, ["HS256"], audience="taskyard")
    assert claims["sub"] == made.document["id"]


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("POSTGRES_MAIN", "postgresql+asyncpg://me:hunter2@127.0.0.1:1/x"),
        ("MYSQL_LINT", "mysql+aiomysql://me:hunter2@127.0.0.1:1/x"),
    ],
)
def test_a_database_that_is_away(bind: str, url: str, taskyard: Callable[..., Outcome]) -> None:
    ended = taskyard("db", "upgrade", **{f"TASKYARD_DATABASES__{bind}__URL": url})
    assert ended.code == 5
    assert f"'{bind.lower()}' does not answer" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err


def test_a_login_that_is_refused(taskyard: Callable[..., Outcome], services: Services) -> None:
    url = services.mysql_url.replace("://", "://nobody:hunter2@", 1)
    host = url.rpartition("@")[2]
    wrong = f"mysql+aiomysql://nobody:hunter2@{host}"
    ended = taskyard("db", "status", TASKYARD_DATABASES__MYSQL_LINT__URL=wrong)
    assert ended.code == 5
    assert "hint: The cause: " in ended.err
    assert "Access denied" in ended.err
    assert "hunter2" not in ended.err
    assert "Traceback" not in ended.err
