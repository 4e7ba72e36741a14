"""How `make test` finds, starts and reports the services, with starters that start nothing."""

import os
from collections.abc import Sequence
from subprocess import CalledProcessError

import pytest

from scripts.debian_services import free_port
from scripts.run_tests import print_summary, print_table, use_services
from tests import services as test_services
from tests.services import ENVIRONMENT, Found, Missing, find_service


class FakeStarter:
    """A starter that answers what it is told and remembers what it was asked for."""

    def __init__(
        self,
        urls: dict[str, str] | None = None,
        *,
        reason: str | None = None,
        error: Exception | None = None,
    ) -> None:
        self.urls, self.reason, self.error = urls or {}, reason, error
        self.asked: list[str] = []
        self.stopped = False

    def unavailable(self) -> str | None:
        return self.reason

    def start(self, names: Sequence[str]) -> dict[str, str]:
        self.asked = list(names)
        if self.error:
            raise self.error
        return self.urls

    def stop(self) -> None:
        self.stopped = True


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable is set, and no standard port answers."""
    for variable in ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)
    closed = free_port()
    monkeypatch.setattr(
        test_services,
        "STANDARD_URLS",
        {
            "postgres": (f"postgresql://postgres@127.0.0.1:{closed}/postgres",),
            "mysql": (f"mysql://root@127.0.0.1:{closed}",),
            "redis": (f"redis://127.0.0.1:{closed}/0",),
            "amqp": (f"amqp://guest:guest@127.0.0.1:{closed}//",),
        },
    )


@pytest.mark.usefixtures("nothing_runs")
def test_a_starter_that_cannot_is_passed_over(capsys: pytest.CaptureFixture[str]) -> None:
    docker, debian = FakeStarter(reason="no engine"), FakeStarter()
    with use_services({"docker": docker, "debian": debian}) as services:
        assert all(isinstance(service, Missing) for service in services.values())
    assert docker.asked == []
    assert debian.asked == list(ENVIRONMENT)
    assert debian.stopped
    assert "docker: no engine" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_runs")
def test_the_next_starter_takes_over_when_one_fails(capsys: pytest.CaptureFixture[str]) -> None:
    docker = FakeStarter(error=CalledProcessError(1, "docker", stderr=b"no such image"))
    debian = FakeStarter()
    with use_services({"docker": docker, "debian": debian}):
        pass
    assert debian.asked == list(ENVIRONMENT)
    assert docker.stopped
    assert "no such image" in capsys.readouterr().out


@pytest.mark.usefixtures("nothing_runs")
def test_a_service_given_by_url_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"redis://:hidden-word@127.0.0.1:{free_port()}/0"
    monkeypatch.setenv(ENVIRONMENT["redis"], url)
    debian = FakeStarter()
    with use_services({"debian": debian}) as services:
        missing = services["redis"]
    assert "redis" not in debian.asked
    assert isinstance(missing, Missing)
    assert "hidden-word" not in missing.reason


@pytest.mark.usefixtures("nothing_runs")
def test_the_environment_is_as_before_at_the_end() -> None:
    debian = FakeStarter({"redis": f"redis://127.0.0.1:{free_port()}/0"})
    with use_services({"debian": debian}):
        pass
    assert isinstance(find_service("redis"), Missing)
    assert not any(variable in os.environ for variable in ENVIRONMENT.values())


def test_table_and_summary_name_what_was_used_and_what_is_missing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    services: dict[str, Found | Missing] = {
        "postgres": Found("postgresql://…", "PostgreSQL 15.1", "standard port"),
        "redis": Missing("connection refused"),
    }
    print_table(services)
    print_summary(services, ["missing services"], "3 min 1 s")
    output = capsys.readouterr().out
    assert "PostgreSQL 15.1     standard port" in output
    assert "not here            connection refused" in output
    assert "tests that need redis did not run" in output
    assert "test: FAILED (missing services) in 3 min 1 s on PostgreSQL 15.1" in output


@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("ci", ["true", ""])
def test_a_missing_service_skips_here_and_fails_in_ci(
    ci: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    expected = pytest.fail.Exception if ci else pytest.skip.Exception
    with pytest.raises(expected, match="redis is not here"):
        test_services.Services().require("redis")
