"""What is asked of a Docker engine, with a program in its place that writes down each call."""

from pathlib import Path

import pytest

from scripts.docker_services import DockerServices

FAKE = """#!/bin/sh
echo "$*" >> "{calls}"
case "$*" in
  info) exit {info} ;;
  *" port redis 6379") echo 127.0.0.1:49153 ;;
  *" port postgres 5432") echo 127.0.0.1:49154 ;;
esac
"""


def fake_docker(folder: Path, *, info: int = 0) -> str:
    program = folder / "docker"
    program.write_text(FAKE.format(calls=folder / "calls", info=info), "utf-8")
    program.chmod(0o755)
    return str(program)


def calls(folder: Path) -> list[str]:
    return (folder / "calls").read_text("utf-8").splitlines()


def test_urls_have_the_ports_that_the_engine_chose(tmp_path: Path) -> None:
    services = DockerServices(fake_docker(tmp_path))
    assert services.unavailable() is None
    assert services.start(["redis", "postgres"]) == {
        "redis": "redis://127.0.0.1:49153/0",
        "postgres": "postgresql://postgres@127.0.0.1:49154/postgres",
    }
    services.stop()
    up, down = (next(call for call in calls(tmp_path) if word in call) for word in ("up", "down"))
    assert up.endswith("up --detach --wait redis postgres")
    assert "down --volumes" in down


def test_nothing_is_removed_that_was_not_started(tmp_path: Path) -> None:
    services = DockerServices(fake_docker(tmp_path))
    services.unavailable()
    services.stop()
    assert not any("down" in call for call in calls(tmp_path))


@pytest.mark.parametrize("name", ["docker", "no-such-program"])
def test_without_an_engine_it_says_so(tmp_path: Path, name: str) -> None:
    fake_docker(tmp_path, info=1)
    assert DockerServices(str(tmp_path / name)).unavailable() == "no Docker engine answers"
