"""Following a run on its stream: resumed when it is cut off, polled when there is none."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from app.cli.client import Run
from app.cli.event_stream import StreamEvent, read_events
from app.cli.exit_codes import ExitCode
from app.cli.failures import CommandError, Failure
from app.cli.streams import follow_events, line_of
from tests.unit.cli.test_watching import Time, run_in


def event(seq: int | str, kind: str = "log") -> StreamEvent:
    return StreamEvent(str(seq), kind, {"level": "info", "message": f"line {seq}"})


def refusal(code: str, exit_code: ExitCode = ExitCode.UNAVAILABLE) -> CommandError:
    return CommandError(Failure(code=code, detail="No stream.", exit_code=exit_code))


class Service:
    """Gives one part of the stream after the other; an error in a part cuts it off there."""

    def __init__(
        self, *parts: Sequence[StreamEvent | CommandError], ended: Run | None = None
    ) -> None:
        self.parts = list(parts)
        self.asked: list[str | None] = []
        self.ended = ended or run_in("SUCCEEDED")

    def run(self, task_id: str) -> Run:
        return self.ended

    @contextmanager
    def stream(
        self, task_id: str, after: str | None, silence_seconds: float
    ) -> Iterator[Iterator[StreamEvent]]:
        self.asked.append(after)
        part = self.parts.pop(0)

        def events() -> Iterator[StreamEvent]:
            for one in part:
                if isinstance(one, CommandError):
                    raise one
                yield one

        yield events()


def follow(service: Service, **options: float) -> tuple[Run, list[str]]:
    seen: list[str] = []
    ended = follow_events(
        service,
        run_in("RUNNING"),
        on_event=lambda one: seen.append(one.id),
        tell=lambda _: None,
        clock=Time(),
        **options,
    )
    return ended, seen


def test_a_stream_that_is_cut_off_is_resumed_behind_what_was_seen() -> None:
    gone = refusal("SERVICE_UNREACHABLE")
    service = Service([event(1), event(2), gone], [gone], [event(3)], [event("3-end", "end")])
    ended, seen = follow(service)
    assert seen == ["1", "2", "3", "3-end"]
    assert service.asked == [None, "2", "2", "3"]
    assert ended["status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    "code", ["STREAMS_FULL", "TOO_MANY_STREAMS", "NOT_FOUND", "UNEXPECTED_ANSWER"]
)
def test_a_service_without_a_stream_is_polled(code: str) -> None:
    ended, seen = follow(Service([refusal(code)]))
    assert (ended["status"], seen) == ("SUCCEEDED", [])


def test_a_refusal_for_good_is_told() -> None:
    with pytest.raises(CommandError):
        follow(Service([refusal("FORBIDDEN", ExitCode.NOT_ALLOWED)]))


def test_a_service_that_stays_away_is_given_up() -> None:
    with pytest.raises(CommandError):
        follow(Service(*([refusal("SERVICE_UNREACHABLE")] for _ in range(100))))


def test_the_time_is_kept() -> None:
    service = Service(*([event(number)] for number in range(100)), ended=run_in("RUNNING"))
    away = [refusal("SERVICE_UNREACHABLE")]
    service.parts[1:] = [away for _ in range(100)]
    ended, _ = follow(service, timeout_seconds=5)
    assert ended["status"] == "RUNNING"


def test_events_are_read_back_without_comments_and_broken_ends() -> None:
    text = 'retry: 1\n: hello\n\nid: 1\nevent: log\ndata: {"a": 1}\n\nid: 2\nevent: log\ndata: {'
    assert list(read_events(text.split("\n"))) == [StreamEvent("1", "log", {"a": 1})]


def test_lines_for_people() -> None:
    at = "2026-01-02T03:04:05.678901Z"
    log = {"at": at, "level": "info", "message": "read", "fields": {"rows": 3}}
    move = {"at": at, "from": "RUNNING", "to": "RETRYING", "attempt": 1, "detail": {"error": "E"}}
    report = {"at": at, "current": 1, "total": 4, "message": "reading"}
    assert line_of(StreamEvent("1", "log", log)) == "03:04:05 INFO    read rows=3"
    assert line_of(StreamEvent("2", "status", move)) == "03:04:05 RETRYING  attempt 1  E"
    assert line_of(StreamEvent("3", "progress", report)) == "03:04:05 1 of 4 reading"
