"""`taskyard users` and `taskyard token` on SQLite: secrets stay secret, a token stands alone."""

import io
from pathlib import Path

import jwt
import pytest

from tests.unit.cli.commands import RunCommand, Typed

PASSWORD = "correct horse battery"


@pytest.fixture
def create(installation: RunCommand, monkeypatch: pytest.MonkeyPatch) -> RunCommand:
    """Make a user whose password comes on standard input."""

    def create_user(*arguments: str) -> object:
        monkeypatch.setattr("sys.stdin", io.StringIO(f"{PASSWORD}\n"))
        return installation("users", "create", *arguments, "--password-stdin")

    return create_user  # type: ignore[return-value]  # it returns what the command line returns


def test_a_user_is_made_and_the_password_is_not_shown(create: RunCommand, tmp_path: Path) -> None:
    made = create("Ada", "--role", "operator")
    assert made.code == 0
    assert made.document | {"name": "ada", "role": "operator"} == made.document
    assert PASSWORD not in made.out + made.err
    kept = b"".join(file.read_bytes() for file in (tmp_path / ".taskyard").iterdir())
    assert b"ada" in kept
    assert PASSWORD.encode() not in kept


def test_the_least_role_is_the_default(create: RunCommand) -> None:
    assert create("ada").document["role"] == "viewer"


def test_a_name_that_is_taken(create: RunCommand) -> None:
    create("ada")
    ended = create("ADA")
    assert ended.code == 1
    assert "NAME_TAKEN" in ended.err


@pytest.mark.parametrize("arguments", [("a b",), ("ada", "--role", "king")])
def test_a_wrong_name_or_role(arguments: tuple[str, ...], create: RunCommand) -> None:
    assert create(*arguments).code == 2


def test_without_a_terminal_the_password_must_come_on_standard_input(
    installation: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    ended = installation("users", "create", "ada")
    assert ended.code == 2
    assert "hint: Give it on standard input, with --password-stdin." in ended.err


def test_on_a_terminal_the_password_is_asked_for_twice(
    installation: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def type_password(prompt: str = "", stream: object = None) -> str:
        asked.append(prompt)
        return PASSWORD

    monkeypatch.setattr("sys.stdin", Typed(""))
    monkeypatch.setattr("getpass.getpass", type_password)
    made = installation("users", "create", "ada")
    assert made.code == 0
    assert len(asked) == 2
    assert PASSWORD not in made.out + made.err


def test_a_token_stands_alone_on_standard_output(
    create: RunCommand, installation: RunCommand
) -> None:
    user = create("admin", "--role", "admin").document
    ended = installation("token")
    assert (ended.code, ended.err) == (0, "")
    claims = jwt.decode(ended.out.strip(), options={"verify_signature": False})
    assert claims["sub"] == user["id"]
    assert ended.out.count("\n") == 1


def test_a_token_can_be_narrowed(create: RunCommand, installation: RunCommand) -> None:
    create("ada", "--role", "operator")
    ended = installation(
        *("token", "--username", "ada", "--scope", "tasks:read"),
        *("--scope", "tasks:run", "--expires-in", "60"),
    )
    claims = jwt.decode(ended.out.strip(), options={"verify_signature": False})
    assert set(claims["scope"].split()) == {"tasks:read", "tasks:run"}
    assert claims["exp"] - claims["iat"] == 60


def test_a_token_cannot_be_wider_than_its_user(
    create: RunCommand, installation: RunCommand
) -> None:
    create("ada", "--role", "viewer")
    ended = installation("token", "--username", "ada", "--scope", "admin")
    assert ended.code == 2
    assert ended.out == ""
    assert "INVALID_SCOPE" in ended.err


def test_the_first_administrator_is_the_default(
    create: RunCommand, installation: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = installation("token")
    assert ended.code == 3
    assert "next: taskyard users create admin --role admin" in ended.err
    monkeypatch.setenv("TASKYARD_AUTH__BOOTSTRAP_ADMIN", "ops:hunter2hunter2")
    ended = installation("token")
    assert ended.code == 3
    assert "'ops'" in ended.err
    assert "hunter2" not in ended.err
    create("ops", "--role", "admin")
    assert installation("token").code == 0


@pytest.mark.parametrize("seconds", ["0", "-1", "soon", "999999999"])
def test_a_wrong_life_time(seconds: str, create: RunCommand, installation: RunCommand) -> None:
    create("admin", "--role", "admin")
    assert installation("token", "--expires-in", seconds).code == 2


@pytest.mark.parametrize("command", [("token",), ("users", "create", "ada", "--password-stdin")])
def test_a_database_without_tables(
    command: tuple[str, ...], taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKYARD_PLUGINS", "[]")
    monkeypatch.setattr("sys.stdin", io.StringIO(PASSWORD))
    ended = taskyard(*command)
    assert ended.code == 5
    assert "DATABASE_NOT_MIGRATED" in ended.err
    assert "next: taskyard db upgrade" in ended.err
