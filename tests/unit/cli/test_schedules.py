"""`taskyard schedules` against a service that answers as it is told."""

import sys
from typing import Any

import pytest

from tests.unit.cli.commands import RunCommand, Typed
from tests.unit.cli.fake_service import Answer, FakeService, problem

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
SCHEDULE: dict[str, Any] = {
    "id": ID,
    "name": "nightly",
    "task": "text.count_words",
    "params": {"text": "a b"},
    "cron": "30 2 * * *",
    "interval_seconds": None,
    "timezone": "Europe/Berlin",
    "is_active": True,
    "next_fire_at": "2026-01-31T01:30:00.000000Z",
    "last_fire_at": None,
    "error": {"type": "TASK_NOT_REGISTERED", "message": "No task is called so."},
    "links": {"self": f"/api/v1/schedules/{ID}"},
}
RUN = {"task_id": ID, "task": "x.y", "status": "PENDING", "created_at": "2026-01-31T00:00:00Z"}
TASK = {"name": "x.y", "params_schema": {"properties": {"text": {"type": "string"}}}}
PATH = f"/schedules/{ID}"


def page(*items: Any, cursor: str | None = None) -> Answer:
    return Answer({"items": items, "next_cursor": cursor})


def test_list_sends_its_filters_and_prints_the_answer(
    service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("GET", "/schedules", page(SCHEDULE))
    ended = taskyard("schedules", "list", "--task", "x.y", "--name", "nightly", "--limit", "7")
    assert ended.document == [SCHEDULE]
    assert service.received[0].query == [("task", "x.y"), ("name", "nightly"), ("limit", "7")]


def test_list_follows_the_pages_up_to_the_limit(service: FakeService, taskyard: RunCommand) -> None:
    pages = (page(*[SCHEDULE] * 200, cursor="c"), page(*[SCHEDULE] * 9))
    service.answer("GET", "/schedules", *pages)
    assert len(taskyard("schedules", "list", "--limit", "205").document) == 205
    assert [dict(one.query) for one in service.received] == [
        {"limit": "200"},
        {"limit": "5", "cursor": "c"},
    ]


def test_list_tells_times_and_errors_in_words(service: FakeService, taskyard: RunCommand) -> None:
    often = {**SCHEDULE, "cron": None, "interval_seconds": 90.5, "error": None}
    service.answer("GET", "/schedules", page(SCHEDULE, often))
    _, *rows = taskyard("schedules", "list", "-o", "table").out.splitlines()
    assert "30 2 * * *" in rows[0]
    assert rows[0].rstrip().endswith("TASK_NOT_REGISTERED")
    assert "every 90.5 s" in rows[1]


def test_show_prints_the_schedule(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", PATH, Answer(SCHEDULE))
    assert taskyard("schedules", "show", ID.upper()).document == SCHEDULE


def test_create_sends_the_whole_wish(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/tasks/registered/x.y", Answer(TASK))
    service.answer("POST", "/schedules", Answer(SCHEDULE, 201))
    when = ("--cron", "30 2 * * *", "--timezone", "Europe/Berlin")
    policies = ("--misfire", "skip", "--overlap", "cancel_previous", "--paused")
    ended = taskyard("schedules", "create", "nightly", "x.y", *when, *policies, "-p", "text=7")
    assert (ended.code, ended.document) == (0, SCHEDULE)
    assert service.received[-1].document == {
        "name": "nightly",
        "task": "x.y",
        "params": {"text": "7"},
        "cron": "30 2 * * *",
        "interval_seconds": None,
        "timezone": "Europe/Berlin",
        "misfire": "skip",
        "overlap": "cancel_previous",
        "is_active": False,
    }


def test_create_has_defaults(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", "/schedules", Answer(SCHEDULE, 201))
    taskyard("schedules", "create", "poll", "x.y", "--every", "30")
    sent = service.received[0].document
    assert (sent["interval_seconds"], sent["cron"], sent["params"]) == (30, None, {})
    assert (sent["misfire"], sent["overlap"], sent["timezone"]) == ("run_once", "allow", "UTC")
    assert sent["is_active"] is True


def test_create_names_the_wrong_field(service: FakeService, taskyard: RunCommand) -> None:
    fault = {"loc": ["body", "cron"], "msg": "has 4 fields", "type": "cron_fields"}
    answer = problem(422, "INVALID_SCHEDULE", errors=[fault])
    service.answer("POST", "/schedules", answer)
    ended = taskyard("schedules", "create", "poll", "x.y", "--cron", "* * * *")
    assert ended.code == 2
    assert "cron: has 4 fields" in ended.err


@pytest.mark.parametrize(("command", "is_active"), [("pause", False), ("resume", True)])
def test_pause_and_resume(
    command: str, is_active: bool, service: FakeService, taskyard: RunCommand
) -> None:
    service.answer("PATCH", PATH, Answer(SCHEDULE))
    assert taskyard("schedules", command, ID).document == SCHEDULE
    assert service.received[0].document == {"is_active": is_active}


def test_run_prints_the_run(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("POST", f"{PATH}/run", Answer(RUN, 202))
    assert taskyard("schedules", "run", ID).document == RUN


def test_preview_shows_both_clocks(service: FakeService, taskyard: RunCommand) -> None:
    moment = {"fire_time": "2026-01-31T01:30:00Z", "local_time": "2026-01-31T02:30:00+01:00"}
    service.answer("GET", f"{PATH}/preview", page(moment))
    _, row = taskyard("schedules", "preview", ID, "--count", "3", "-o", "table").out.splitlines()
    assert row.split() == [moment["local_time"], moment["fire_time"]]
    assert service.received[0].query == [("count", "3")]


def test_firings_show_what_became_of_them(service: FakeService, taskyard: RunCommand) -> None:
    firing = {
        "fire_time": "2026-01-31T01:30:00Z",
        "outcome": "skipped",
        "trigger": "schedule",
        "run_id": None,
        "reason": "The run has not ended.",
    }
    service.answer("GET", f"{PATH}/firings", page(firing))
    _, row = taskyard("schedules", "firings", ID, "-o", "table").out.splitlines()
    assert row.split()[:3] == [firing["fire_time"], "skipped", "schedule"]
    assert service.received[0].query == [("limit", "50")]


class TestDelete:
    def test_it_is_done_and_told(self, service: FakeService, taskyard: RunCommand) -> None:
        service.answer("GET", PATH, Answer(SCHEDULE))
        service.answer("DELETE", PATH, Answer("", 204))
        ended = taskyard("schedules", "delete", ID)
        assert ended.document == {"id": ID, "name": "nightly", "deleted": True}

    @pytest.mark.parametrize(
        ("typed", "flags", "deletes"), [("y\n", (), True), ("n\n", (), False), ("", ("-y",), True)]
    )
    def test_a_terminal_asks(
        self,
        typed: str,
        flags: tuple[str, ...],
        deletes: bool,
        service: FakeService,
        taskyard: RunCommand,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(sys, "stdin", Typed(typed))
        service.answer("GET", PATH, Answer(SCHEDULE))
        service.answer("DELETE", PATH, Answer("", 204))
        ended = taskyard("schedules", "delete", ID, *flags)
        assert ("Delete the schedule 'nightly'?" in ended.err) is (not flags)
        assert ended.code == (0 if deletes else 1)
        assert ("DELETE" in [one.method for one in service.received]) is deletes

    def test_one_of_code_stays(self, service: FakeService, taskyard: RunCommand) -> None:
        service.answer("GET", PATH, Answer(SCHEDULE))
        hint = "pause it with PATCH is_active: false"
        service.answer("DELETE", PATH, problem(409, "SCHEDULE_OF_CODE", hint=hint))
        ended = taskyard("schedules", "delete", ID)
        assert ended.code == 1
        assert f"next: taskyard schedules pause {ID}" in ended.err


@pytest.mark.parametrize(
    "command", ["show", "pause", "resume", "run", "preview", "firings", "delete"]
)
@pytest.mark.parametrize("text", ["..", f"{ID}/run", "nightly", "x" * 5000])
def test_what_is_no_id_is_not_found(
    command: str, text: str, service: FakeService, taskyard: RunCommand
) -> None:
    ended = taskyard("schedules", command, text)
    assert ended.code == 3
    assert "next: taskyard schedules list" in ended.err
    assert service.received == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "nightly", "x.y"),
        ("create", "nightly", "x.y", "--cron", "0 0 * * *", "--every", "5"),
        ("create", "nightly", "x.y", "--every", "0.5"),
        ("create", "nightly", "x.y", "--every", "often"),
        ("create", "nightly", "--every", "5"),
        ("create", "nightly", "x.y", "--every", "5", "--json", "[]"),
        ("preview", ID, "--count", "0"),
        ("list", "--limit", "0"),
    ],
)
def test_a_call_that_cannot_be_meant_is_a_usage_error(
    arguments: tuple[str, ...], service: FakeService, taskyard: RunCommand
) -> None:
    assert taskyard("schedules", *arguments).code == 2
    assert service.received == []
