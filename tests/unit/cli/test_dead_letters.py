"""`taskyard dead-letters` against a service that answers as it is told."""

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.unit.cli.commands import RunCommand, Typed
from tests.unit.cli.fake_service import Answer, FakeService, problem

ID = "01890a5d-ac96-774b-bcce-b302099a8057"
RUN_ID = "01890a5d-ac96-774b-bcce-b302099a8058"
LETTER: dict[str, Any] = {
    "id": ID,
    "state": "open",
    "task": "text.count_words",
    "error_type": "Fatal",
    "queue": "default",
    "attempts": 3,
    "created_at": "2026-01-31T00:00:00.000000Z",
    "links": {"self": f"/api/v1/dead-letters/{ID}"},
}
GROUP = {"task": "x.y", "error_type": "Fatal", "origin": "run", "count": 7, "replayed": 2}
RUN = {"task_id": RUN_ID, "task": "x.y", "status": "PENDING", "created_at": "2026-01-31T00:00:00Z"}
FILTERS = ("--task", "x.y", "--queue", "default", "--error-type", "Fatal", "--origin", "run")
ASKED = {"task": "x.y", "queue": "default", "error_type": "Fatal", "origin": "run"}
SINCE = "2026-01-31T00:00:00Z"


def page(*items: Any, cursor: str | None = None) -> Answer:
    return Answer({"items": items, "next_cursor": cursor})


def counted(count: int, *, dry_run: bool = False, **more: Any) -> Answer:
    body = {"dry_run": dry_run, "count": count, "batch_id": None, "skipped": {}, **more}
    return Answer(body, 200 if dry_run else 202)


def on_a_terminal(monkeypatch: pytest.MonkeyPatch, typed: str) -> None:
    monkeypatch.setattr(sys, "stdin", Typed(typed))


def test_list_sends_its_filters(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/dead-letters", page(LETTER))
    states = ("--state", "OPEN", "--state", "discarded")
    ended = taskyard("dead-letters", "list", *FILTERS, "--since", SINCE, *states, "--limit", "7")
    assert ended.document == [LETTER]
    assert service.received[0].query == [
        *ASKED.items(),
        ("since", SINCE),
        ("state", "open"),
        ("state", "discarded"),
        ("limit", "7"),
    ]


def test_list_follows_the_pages_up_to_the_limit(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/dead-letters", page(*[LETTER] * 200, cursor="c"), page(*[LETTER] * 9))
    assert len(taskyard("dead-letters", "list", "--limit", "205").document) == 205
    assert [dict(one.query) for one in service.received] == [
        {"limit": "200"},
        {"limit": "5", "cursor": "c"},
    ]


def test_lists_as_tables(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", "/dead-letters", page(LETTER))
    service.answer("GET", "/dead-letters/groups", page(GROUP))
    _, row = taskyard("dead-letters", "list", "-o", "table").out.splitlines()
    assert row.split()[:4] == [ID, "open", "text.count_words", "Fatal"]
    _, row = taskyard("dead-letters", "groups", "--task", "x.y", "-o", "table").out.splitlines()
    assert row.split()[:5] == ["x.y", "Fatal", "run", "7", "2"]
    assert service.received[1].query == [("task", "x.y"), ("limit", "50")]


def test_show_prints_the_letter(service: FakeService, taskyard: RunCommand) -> None:
    service.answer("GET", f"/dead-letters/{ID}", Answer(LETTER))
    assert taskyard("dead-letters", "show", ID.upper()).document == LETTER


@pytest.mark.parametrize(
    "arguments", [("show",), ("replay",), ("discard", "--reason", "x")], ids=lambda one: one[0]
)
@pytest.mark.parametrize("text", ["groups", "..", f"{ID}/replay", "x" * 5000])
def test_what_is_no_id_is_not_found(
    arguments: tuple[str, ...], text: str, service: FakeService, taskyard: RunCommand
) -> None:
    ended = taskyard("dead-letters", *arguments, text)
    assert ended.code == 3
    assert "next: taskyard dead-letters list" in ended.err
    assert service.received == []


class TestReplay:
    def test_one_with_other_params(
        self, service: FakeService, taskyard: RunCommand, tmp_path: Path
    ) -> None:
        service.answer("POST", f"/dead-letters/{ID}/replay", Answer(RUN, 202))
        (tmp_path / "params.json").write_text('{"text": "a b"}', "utf-8")
        ended = taskyard(
            *("dead-letters", "replay", ID, "--params", "@params.json", "--reason", "mended")
        )
        assert (ended.code, ended.document) == (0, RUN)
        sent = service.received[0].document
        assert sent == {"params": {"text": "a b"}, "reason": "mended"}

    def test_one_as_it_was(self, service: FakeService, taskyard: RunCommand) -> None:
        service.answer("POST", f"/dead-letters/{ID}/replay", Answer(RUN, 202))
        assert taskyard("dead-letters", "replay", ID).code == 0
        assert service.received[0].document == {"params": None, "reason": None}

    @pytest.mark.parametrize(
        ("code", "told"),
        [
            ("DEAD_LETTER_REPLAYED", f"taskyard dead-letters show {ID}"),
            ("DEAD_LETTER_TASK_NOT_REGISTERED", "taskyard tasks list"),
        ],
    )
    def test_what_stands_against_it(
        self, code: str, told: str, service: FakeService, taskyard: RunCommand
    ) -> None:
        service.answer("POST", f"/dead-letters/{ID}/replay", problem(409, code))
        ended = taskyard("dead-letters", "replay", ID)
        assert ended.code == 1
        assert f"next: {told}" in ended.err

    def test_by_filter(self, service: FakeService, taskyard: RunCommand) -> None:
        answer = counted(3, batch_id=RUN_ID, skipped={"DEAD_LETTER_HAS_NO_RUN": 2})
        service.answer("POST", "/dead-letters/replay", answer)
        ended = taskyard("dead-letters", "replay", *FILTERS, "--rate", "2.5", "--reason", "ok")
        assert ended.document == answer.body
        assert "skipped 2: DEAD_LETTER_HAS_NO_RUN" in ended.err
        (sent,) = service.received
        assert sent.document == {
            "filter": ASKED,
            "rate_per_second": 2.5,
            "reason": "ok",
            "dry_run": False,
        }

    def test_a_dry_run(self, service: FakeService, taskyard: RunCommand) -> None:
        service.answer("POST", "/dead-letters/replay", counted(3, dry_run=True))
        ended = taskyard("dead-letters", "replay", "--since", SINCE, "--dry-run")
        assert ended.document["count"] == 3
        assert [one.document["dry_run"] for one in service.received] == [True]

    @pytest.mark.parametrize(
        ("typed", "flags"), [("y\n", [True, False]), ("n\n", [True]), ("", [True])]
    )
    def test_a_terminal_asks_with_the_count(
        self,
        typed: str,
        flags: list[bool],
        service: FakeService,
        taskyard: RunCommand,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        on_a_terminal(monkeypatch, typed)
        service.answer("POST", "/dead-letters/replay", counted(12, dry_run=True), counted(12))
        ended = taskyard("dead-letters", "replay", "--all")
        assert "Replay 12 dead letters?" in ended.err
        assert [one.document["dry_run"] for one in service.received] == flags
        assert ended.code == (0 if len(flags) == 2 else 1)

    def test_yes_asks_nothing(
        self, service: FakeService, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on_a_terminal(monkeypatch, "")
        service.answer("POST", "/dead-letters/replay", counted(12))
        assert taskyard("dead-letters", "replay", "--all", "--yes").code == 0
        assert [one.document["filter"] for one in service.received] == [{}]


class TestDiscard:
    def test_one(self, service: FakeService, taskyard: RunCommand) -> None:
        gone = {**LETTER, "state": "discarded"}
        service.answer("DELETE", f"/dead-letters/{ID}", Answer("", 204))
        service.answer("GET", f"/dead-letters/{ID}", Answer(gone))
        ended = taskyard("dead-letters", "discard", ID, "--reason", "of no use")
        assert (ended.code, ended.document) == (0, gone)
        assert service.received[0].query == [("reason", "of no use")]
        assert taskyard("dead-letters", "discard", ID).code == 0
        assert service.received[2].query == []

    def test_by_filter(
        self, service: FakeService, taskyard: RunCommand, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        on_a_terminal(monkeypatch, "y\n")
        once, twice = (Answer({"dry_run": dry, "count": 1}) for dry in (True, False))
        service.answer("POST", "/dead-letters/discard", once, twice)
        ended = taskyard("dead-letters", "discard", "--origin", "broker", "--reason", "garbage")
        assert ended.document == {"dry_run": False, "count": 1}
        assert "Discard 1 dead letter?" in ended.err
        body = {"filter": {"origin": "broker"}, "reason": "garbage"}
        assert [one.document for one in service.received] == [
            {**body, "dry_run": True},
            {**body, "dry_run": False},
        ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay",),
        ("replay", ID, "--all"),
        ("replay", ID, "--task", "x.y"),
        ("replay", "--all", "--task", "x.y"),
        ("replay", ID, "--rate", "1"),
        ("replay", ID, "--dry-run"),
        ("replay", "--all", "--params", "{}"),
        ("replay", ID, "--params", "[]"),
        ("replay", ID, "--params", "@no-such-file"),
        ("replay", "--all", "--rate", "fast"),
        ("discard",),
        ("discard", "--reason", "x"),
        ("discard", ID, "--reason", "x", "--dry-run"),
        ("list", "--limit", "0"),
    ],
)
def test_a_call_that_cannot_be_meant_is_a_usage_error(
    arguments: tuple[str, ...], service: FakeService, taskyard: RunCommand
) -> None:
    assert taskyard("dead-letters", *arguments).code == 2
    assert service.received == []
