"""The same runs on a worker in this process and on one of its own."""

import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.celery_worker.messages import BODY
from app.celery_worker.site import UNKNOWN_TASK
from app.common.ids import new_id
from tests.contract.broker.yards import Yard, await_it, open_yard
from tests.services import Services


@pytest.fixture(scope="module", params=["embedded", "real", "tiny"])
def yard(
    request: pytest.FixtureRequest, services: Services, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    with open_yard(request.param, folder, services) as yard:
        yield yard


def test_a_run_ends_with_its_result(yard: Yard) -> None:
    run_id = yard.submit("probe.echo_text", {"text": "hello"})
    row = yard.await_status(run_id, "SUCCEEDED", "FAILED")
    assert (row.status, row.result, row.attempt) == ("SUCCEEDED", "hello", 1)


def test_a_delayed_run_does_not_start_early(yard: Yard) -> None:
    run_id = yard.submit("probe.echo_text", {"text": "later"}, delay_seconds=1.3)
    row = yard.await_status(run_id, "SUCCEEDED")
    assert row.started_at >= row.scheduled_for
    assert (row.scheduled_for - row.created_at).total_seconds() >= 1.3


def test_five_delayed_retries_and_then_a_result(yard: Yard) -> None:
    row = yard.await_status(yard.submit("probe.fail_often", {"failures": 5}), "SUCCEEDED", "FAILED")
    assert (row.status, row.attempt, row.result) == ("SUCCEEDED", 6, 6)


def test_a_run_that_fails_for_good_leaves_one_dead_letter(yard: Yard) -> None:
    run_id = yard.submit("probe.fail_always")
    row = yard.await_status(run_id, "FAILED")
    assert row.dead_letter_id is not None

    def archived() -> Any:
        letters = [letter for letter in yard.dead_letters() if str(letter.run_id) == run_id]
        return letters if letters and letters[0].message else None

    (letter,) = await_it(archived)
    assert letter.error_type == "Fatal"


def test_urgent_work_goes_first_when_a_slot_is_free(yard: Yard, tmp_path: Path) -> None:
    note = {"folder": str(tmp_path)}
    holder = yard.submit("probe.note_name", {**note, "name": "holder", "until": "go"})
    yard.await_status(holder, "RUNNING")
    waiting = [
        yard.submit("probe.note_name", {**note, "name": name}, priority=priority)
        for name, priority in (("low", 0), ("normal", 5), ("high", 9))
    ]
    (tmp_path / "go").touch()
    for run_id in waiting:
        yard.await_status(run_id, "SUCCEEDED")
    assert (tmp_path / "order").read_text().split() == ["holder", "high", "normal", "low"]


Bad = tuple[bytes, dict[str, Any], dict[str, Any] | None]
JSON = {"content_type": "application/json", "content_encoding": "utf-8"}
CALL = b"[[], {}, {}]"
# What comes with every Celery app, called as it wants to be.
BUILT_IN = [
    ("celery.backend_cleanup", CALL),
    ("celery.accumulate", b"[[1, 2], {}, {}]"),
    ("celery.map", b'[[{"task": "celery.accumulate"}, [1, 2]], {}, {}]'),
    ("celery.starmap", b'[[{"task": "celery.accumulate"}, [[1], [2]]], {}, {}]'),
    ("celery.chunks", b'[[{"task": "celery.accumulate"}, [[1], [2]], 1], {}, {}]'),
    ("celery.group", b"[[[], null, []], {}, {}]"),
    ("celery.chain", CALL),
    ("celery.chord", b"[[[], []], {}, {}]"),
    ("celery.chord_unlock", b'[["group", {"task": "celery.accumulate"}], {}, {}]'),
]


def ours(**more: Any) -> dict[str, Any]:
    return {"task": "probe.echo_text", "id": new_id(), "lang": "py", **more}


def typed(content_type: str, encoding: str = "utf-8") -> dict[str, Any]:
    return {"content_type": content_type, "content_encoding": encoding}


def bad_messages() -> dict[str, Bad]:
    """Every class of message that no run can come from: body, properties, headers."""
    bomb = zlib.compress(b"[" * 50_000_000)
    return {
        "not JSON": (b"hello", JSON, ours()),
        "no body": (b"", JSON, ours()),
        "an object": (b'{"a": 1}', JSON, ours()),
        "args are an object": (b"[{}, {}, {}]", JSON, ours()),
        "pickle": (b"\x80\x04K\x01.", typed("application/x-python-serialize"), ours()),
        "yaml": (b"!!python/object/apply:os.getpid []", typed("application/x-yaml"), ours()),
        "unknown content type": (CALL, typed("application/foo"), ours()),
        "no content type": (CALL, {}, ours()),
        "bad encoding": (CALL, typed("application/json", "utf-99"), ours()),
        "unknown task": (CALL, JSON, ours(task="probe.unknown")),
        **{f"Celery's own {name}": (body, JSON, ours(task=name)) for name, body in BUILT_IN},
        "the task for tasks without code": (CALL, JSON, ours(task=UNKNOWN_TASK)),
        "id is no UUID": (CALL, JSON, ours(id="../etc/passwd")),
        "unknown run": (CALL, JSON, ours()),
        "no headers": (CALL, JSON, None),
        "headers of other types": (CALL, JSON, {"task": [1], "id": {"a": 1}}),
        "bad time limits": (CALL, JSON, ours(timelimit=["x", -1])),
        "random bytes": (os.urandom(300), {}, {"task": "probe.echo_text"}),
        "10 MB": (b'[["' + b"x" * 10_000_000 + b'"], {}, {}]', JSON, ours()),
        "protocol 1": (b'{"task": "probe.echo_text", "id": "1", "args": []}', JSON, None),
        "a lying compression": (CALL, JSON, ours(compression="zlib")),
        "a compressed bomb": (bomb, JSON, ours(compression="zlib")),
        "deep": (b"[" * 60_000, JSON, ours()),
        "NUL and a lone surrogate": (b'"\\u0000\\ud800\x00"', JSON, ours(note="a\0b")),
    }


def test_no_message_ends_the_worker_or_disappears(yard: Yard) -> None:
    before = {letter.id for letter in yard.dead_letters()}
    bad = bad_messages()
    publish(yard, *bad.values())

    def archived() -> Any:
        letters = [letter for letter in yard.dead_letters() if letter.id not in before]
        return letters if len(letters) >= len(bad) else None

    letters = await_it(archived, lambda: repr([(x.run_id, x.task) for x in yard.dead_letters()]))
    assert len(letters) == len(bad)
    assert {letter.queue for letter in letters} == {"default"}
    ids = {headers["id"] for _, _, headers in bad.values() if headers and is_id(headers.get("id"))}
    assert {str(letter.run_id) for letter in letters if letter.run_id is not None} == ids
    row = yard.await_status(yard.submit("probe.echo_text", {"text": "alive"}), "SUCCEEDED")
    assert row.result == "alive"


def is_id(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 36


def publish(yard: Yard, *messages: Bad) -> None:
    with yard.channel() as channel:
        for body, properties, headers in messages:
            basics = {"content_type": None, "content_encoding": None, **properties}
            message = channel.prepare_message(body, headers=headers, **basics)
            queue = yard.topology.broker_queue("default", 5)
            channel.basic_publish(message, exchange="", routing_key=queue)


def test_a_run_without_code_waits_and_a_forged_message_for_it_is_kept(yard: Yard) -> None:
    before = {letter.id for letter in yard.dead_letters()}
    run_id = yard.submit("probe.echo_text", {"text": "x"}, delay_seconds=3.0)
    yard.rename_function(run_id, "probe.newer")
    # It names no task of this worker and no function of the run.
    publish(yard, (BODY, JSON, ours(task="os.system", id=run_id)))

    def archived() -> Any:
        letters = [letter for letter in yard.dead_letters() if letter.id not in before]
        return letters or None

    (letter,) = await_it(archived)
    assert (letter.task, letter.run_id) == ("os.system", None)
    publish(yard, (BODY, JSON, ours(task="probe.newer", id=run_id)))
    row = yard.await_status(run_id, "RETRYING")
    assert (row.error["type"], row.attempt) == ("TaskNotRegistered", 0)
    yard.rename_function(run_id, "probe.echo_text")
    row = yard.await_status(run_id, "SUCCEEDED", "FAILED")
    assert (row.status, row.result, row.attempt) == ("SUCCEEDED", "x", 1)


def test_forged_arguments_callbacks_and_history_change_nothing(yard: Yard) -> None:
    run_id = yard.submit("probe.echo_text", {"text": "true"}, delay_seconds=1.0)
    other = '{"task": "probe.fail_always", "args": []}'
    embed = f'{{"callbacks": [{other}], "chain": [{other}], "errbacks": null, "chord": null}}'
    forged = {
        "eta": "nonsense",
        "expires": 7,
        "retries": "many",
        "stamped_headers": 5,
        "x-death": [{"count": 10**6, "queue": "q", "reason": "rejected"}],
    }
    body = f'[["forged"], {{"text": "forged"}}, {embed}]'.encode()
    publish(yard, (body, JSON, ours(id=run_id, **forged)))
    row = yard.await_status(run_id, "SUCCEEDED", "FAILED")
    assert (row.status, row.result, row.attempt) == ("SUCCEEDED", "true", 1)
    assert row.started_at >= row.scheduled_for
