"""The client: what it sends, and answers that are not what they should be."""

import socket

import pytest

from app.cli.client import Client
from app.cli.failures import CommandError
from tests.unit.cli.commands import RunCommand
from tests.unit.cli.fake_service import Answer, FakeService

EMPTY = Answer({"items": [], "next_cursor": None})


def test_the_token_goes_in_the_header(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/tasks/registered", EMPTY)
    assert taskyard("tasks", "list").code == 0
    assert taskyard("tasks", "list", "--token", "other").code == 0
    sent = [one.headers.get("authorization") for one in service.received]
    assert sent == ["Bearer header.payload.signature", "Bearer other"]


def test_without_a_token_there_is_no_header(service: FakeService) -> None:
    service.answer("GET", "/tasks/registered", EMPTY)
    with Client(service.url) as client:
        assert client.registered_tasks() == []
    assert "authorization" not in service.received[0].headers


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1", "/api/v1/"])
def test_the_address_may_end_in_several_ways(suffix: str, service: FakeService) -> None:
    service.answer("GET", "/tasks/registered", EMPTY)
    with Client(service.url + suffix) as client:
        client.registered_tasks()
    assert service.received[0].path == "/api/v1/tasks/registered"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:8000",
        "ftp://host",
        "http://",
        "http://host:port",
        "http://host:0",
        "http://host?x=1",
        "http://user:hunter2@host",
        "http://[::1",
    ],
)
def test_an_unusable_address_is_a_usage_error(url: str, taskyard: RunCommand) -> None:
    ended = taskyard("tasks", "list", "--url", url)
    assert ended.code == 2
    assert "is not the address of a service" in ended.err
    assert "hunter2" not in ended.err


def test_a_token_with_a_line_break_is_refused_and_not_shown(taskyard: RunCommand) -> None:
    ended = taskyard("tasks", "list", "--token", "secret\nX-Other: 1")
    assert ended.code == 2
    assert "secret" not in ended.err


def test_nobody_listens(taskyard: RunCommand) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        ended = taskyard("tasks", "list", "--url", url, "--token", "secret-token")
    assert ended.code == 5
    assert "SERVICE_UNREACHABLE" in ended.err
    assert url in ended.err
    assert "next: taskyard dev" in ended.err
    assert "secret-token" not in ended.err


def test_a_silent_service_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with (
            Client(url, read_timeout_seconds=0.05) as client,
            pytest.raises(CommandError) as raised,
        ):
            client.registered_tasks()
    assert raised.value.failure.exit_code == 5
    assert "did not answer in time" in raised.value.failure.detail


@pytest.mark.parametrize(
    "answer",
    [
        Answer("<html>", media_type="text/html"),
        Answer("[]"),
        Answer("{"),
        Answer("[" * 100_000),
        Answer({"items": {}}),
        Answer({}),
    ],
)
def test_an_answer_of_something_else(
    answer: Answer, service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", "/tasks/registered", answer)
    ended = taskyard("tasks", "list")
    assert ended.code == 5
    assert "UNEXPECTED_ANSWER" in ended.err


@pytest.mark.parametrize(
    ("answer", "code", "exit_code"),
    [
        (Answer("<html>", 502, media_type="text/html"), "HTTP_502", 5),
        (Answer("oops", 404), "HTTP_404", 3),
        (Answer([], 500), "HTTP_500", 1),
        (Answer("", 599), "HTTP_599", 1),
        (Answer({"errors": ["x", {"loc": 1}]}, 422), "HTTP_422", 2),
    ],
)
def test_a_problem_that_is_no_problem_document(
    answer: Answer, code: str, exit_code: int, service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", "/tasks/registered", answer)
    ended = taskyard("tasks", "list")
    assert ended.code == exit_code
    assert f"error {code}:" in ended.err


def test_a_redirect_does_not_take_the_token_elsewhere(
    service: FakeService, taskyard: RunCommand
) -> None:
    elsewhere = Answer("", 307, {"Location": f"{service.url}/api/v1/elsewhere"})
    service.answer("GET", "/tasks/registered", elsewhere)
    ended = taskyard("tasks", "list")
    assert ended.code == 1
    assert [one.path for one in service.received] == ["/api/v1/tasks/registered"]


def test_a_name_cannot_leave_its_place_in_the_path(
    service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", "/tasks/registered/a%2F..%2Fb%3Fc", Answer({"name": "x"}))
    assert taskyard("tasks", "show", "a/../b?c").code == 0


def test_no_proxy_stands_between_processes_of_one_machine(
    service: FakeService, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    service.answer("GET", "/tasks/registered", EMPTY)
    assert taskyard("tasks", "list").code == 0
