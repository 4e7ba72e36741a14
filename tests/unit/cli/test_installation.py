"""`taskyard config`, `plugins` and `openapi`: what this installation is."""

from pathlib import Path

import pytest

from tests.unit.cli.commands import RunCommand, run_program


def test_config_tells_value_and_origin(
    taskyard: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "settings.yaml").write_text("server:\n  port: 9000\n", "utf-8")
    monkeypatch.setenv("TASKYARD_LOGGING__LEVEL", "ERROR")
    rows = {row["key"]: row for row in taskyard("config", "show").document}
    assert rows["server.port"] == {"key": "server.port", "value": 9000, "origin": "settings.yaml"}
    assert rows["logging.level"]["origin"] == "environment"
    assert rows["server.host"]["origin"] == "default"


@pytest.mark.parametrize("output", ["table", "json", "jsonl"])
def test_config_masks_secrets(
    output: str, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "TASKYARD_DATABASES__POSTGRES_MAIN__URL": "postgresql+asyncpg://me:hunter2@db/x",
        "TASKYARD_CELERY__BROKER_URL": "amqp://me:hunter2@rabbit//",
        "TASKYARD_REDIS__URL": "redis://:hunter2@cache",
        "TASKYARD_AUTH__JWT__SECRET": "hunter2" * 8,
        "TASKYARD_AUTH__BOOTSTRAP_ADMIN": "ops:hunter2",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    ended = taskyard("config", "show", "-o", output)
    assert ended.code == 0
    assert "hunter2" not in ended.out + ended.err
    assert "postgresql+asyncpg://me:" in ended.out


def test_an_unknown_setting_is_a_usage_error(
    taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKYARD_SERVER__PROT", "9000")
    ended = taskyard("config", "show")
    assert ended.code == 2
    assert "Did you mean 'server.port'?" in ended.err


def test_plugins_are_listed_with_their_tasks(installation: RunCommand) -> None:
    assert installation("plugins", "list").document == [
        {
            "name": "greeter",
            "version": "2.1.0",
            "module": "greeter_plugin_for_tests",
            "description": "Greets.",
            "tasks": ["greeter.say_hello"],
        }
    ]
    assert "greeter.say_hello" in installation("plugins", "list", "-o", "table").out


def test_openapi_is_one_document_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shown = run_program(
        "openapi",
        cwd=tmp_path,
        TASKYARD_PLUGINS="[]",
        TASKYARD_CELERY__BROKER_URL="amqp://nowhere",
    )
    assert (shown.code, shown.err) == (0, "")
    assert shown.document["openapi"].startswith("3.1")
    assert "/api/v1/tasks/run" in shown.document["paths"]
    assert list(tmp_path.iterdir()) == []
