"""docker-compose.yml is valid, holds no secret, and runs the commands that people run by hand."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[3]
SCHEMA = json.loads((ROOT / "tests/data/compose-spec.json").read_text("utf-8"))


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / name).read_text("utf-8"))
    return document


@pytest.mark.parametrize("name", ["docker-compose.yml", "scripts/test-services.yaml"])
def test_file_follows_the_compose_schema(name: str) -> None:
    errors = Draft202012Validator(SCHEMA).iter_errors(load(name))
    assert [f"{error.json_path}: {error.message}" for error in errors] == []


def test_commands_are_those_run_by_hand() -> None:
    services = load("docker-compose.yml")["services"]
    commands = {name: " ".join(services[name].get("command", "")) for name in services}
    assert commands["api"] == "taskyard api"
    assert commands["worker"] == "taskyard worker"
    assert commands["beat"] == "taskyard beat"
    assert commands["migrate"] == "taskyard db upgrade"


def test_limits_of_worker_and_beat() -> None:
    services = load("docker-compose.yml")["services"]
    limits = {name: services[name]["deploy"]["resources"]["limits"] for name in ("worker", "beat")}
    assert limits == {
        "worker": {"cpus": "1.0", "memory": "512M"},
        "beat": {"cpus": "0.25", "memory": "256M"},
    }


def test_start_is_ordered_by_health_and_migration() -> None:
    services = load("docker-compose.yml")["services"]
    for name in ("api", "worker", "beat"):
        assert services[name]["depends_on"]["migrate"] == {
            "condition": "service_completed_successfully"
        }
    for service in services.values():
        for name, wanted in service.get("depends_on", {}).items():
            if wanted["condition"] == "service_healthy":
                assert "test" in services[name]["healthcheck"]


def test_no_secret_is_in_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    assert re.findall(r"://[^:@\s]*:(?!\$\{)[^@\s]+@", text) == []
    values = re.findall(r"^\s+\w*(?:PASSWORD|PASS|SECRET|ADMIN):\s*(.+)$", text, re.MULTILINE)
    given = [value for value in values if value != '"yes"']
    assert len(given) >= 6
    assert all(value.startswith("${") for value in given), given


def test_every_variable_is_in_the_example() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    required = set(re.findall(r"(?<!\$)\$\{(\w+):\?", text))
    example = (ROOT / ".env.example").read_text("utf-8")
    assert required - set(re.findall(r"^(\w+)=", example, re.MULTILINE)) == set()


def test_broker_waits_longer_than_the_longest_task() -> None:
    longest = load("settings.yaml")["limits"]["max_timeout_seconds"]
    config = load("docker-compose.yml")["configs"]["rabbitmq"]["content"]
    (timeout_ms,) = re.findall(r"^consumer_timeout = (\d+)$", config, re.MULTILINE)
    assert int(timeout_ms) > longest * 1000


def test_containers_have_longer_to_stop_than_their_process() -> None:
    settings = load("settings.yaml")
    services = load("docker-compose.yml")["services"]

    def seconds(name: str) -> int:
        return int(services[name]["stop_grace_period"].removesuffix("s"))

    assert seconds("worker") > settings["celery"]["shutdown_grace_seconds"]
    assert seconds("api") > settings["server"]["shutdown_grace_seconds"]
