"""Messages as a plain Celery app makes them, and what a worker takes of them."""

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.message import Message

from app.celery_worker import messages
from app.celery_worker.inspection import BadMessage, cleaned
from app.celery_worker.plain_calls import HEADER, call_of, is_plain_call
from app.common.ids import new_id
from app.tasks.transport import Wakeup

NAME = "test.task"
LARGEST = 1000
RUN_ID = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
APP = Celery(set_as_current=False)


def sent(task_id: str = RUN_ID, args: Any = (), kwargs: Any = None, **more: Any) -> Message:
    """The message that Celery itself makes of a call."""
    headers, _, body, _ = APP.amqp.as_task_v2(task_id, NAME, tuple(args), kwargs or {}, **more)
    return made(json.dumps(body).encode(), dict(headers))


def made(body: bytes, headers: dict[str, Any]) -> Message:
    basics: Any = {"body": body, "content_type": "application/json", "content_encoding": "utf-8"}
    return Message(headers=headers, **basics)


def taken(message: Message, largest: int | None = LARGEST) -> dict[str, Any]:
    headers: dict[str, Any] = cleaned(message, {NAME}, {NAME}, largest).headers
    return headers


def test_celerys_messages_are_calls_and_ours_are_not() -> None:
    assert is_plain_call(sent().headers)
    assert not is_plain_call(messages.headers_of(Wakeup(new_id(), NAME, "default")))


def test_the_arguments_travel_in_one_header() -> None:
    headers = taken(sent(args=[1], kwargs={"text": "ü"}, origin="gen1@host", retries=3))
    assert set(headers) == {
        "lang", "task", "id", "root_id", "ignore_result", "retries", "timelimit", HEADER,
    }  # fmt: skip
    assert (headers["id"], headers["retries"], headers["timelimit"]) == (RUN_ID, 0, [None, None])
    assert headers[HEADER] == {
        "args": [1],
        "kwargs": {"text": "ü"},
        "run_at": None,
        "expires_at": None,
        "labels": {"celery.origin": "gen1@host"},
    }
    message = cleaned(sent(args=[1]), {NAME}, {NAME}, LARGEST)
    assert message.payload == json.loads(messages.BODY)


def test_where_it_is_switched_off_a_call_is_a_wake_up_without_arguments() -> None:
    assert HEADER not in taken(sent(args=[1]), None)


def test_a_wake_up_that_carries_a_call_of_its_own_does_not_keep_it() -> None:
    forged = {"task": NAME, "id": RUN_ID, HEADER: {"args": [], "kwargs": {}}}
    assert HEADER not in taken(made(messages.BODY, forged))


@pytest.mark.parametrize("version", [1, 3, 4, 5, 7])
def test_a_uuid_of_any_version_is_the_runs_id(version: int) -> None:
    run_id = uuid.uuid4().hex
    text = str(uuid.UUID(f"{run_id[:12]}{version}{run_id[13:]}"))
    assert taken(sent(text.upper()))["id"] == text


def test_any_other_id_stands_for_one_run() -> None:
    first, again, other = (taken(sent(text)) for text in ("job-1", "job-1", "job-2"))
    assert first["id"] == again["id"] == first["root_id"]
    assert first["id"] != other["id"]
    assert uuid.UUID(first["id"]).version == 5
    assert first[HEADER]["labels"]["celery.id"] == "job-1"


def test_times_become_moments() -> None:
    eta = datetime(2030, 1, 1, tzinfo=UTC)
    headers = taken(sent(eta=eta, expires="2030-01-02T00:00:00+02:00"))
    call = call_of(headers[HEADER], run_id=RUN_ID, task=NAME, queue=None, priority=4)
    assert call.run_at == eta
    assert call.expires_at == datetime(2030, 1, 1, 22, tzinfo=UTC)
    assert len(call.trace_id) == 32


@pytest.mark.parametrize(("given_priority", "taken_priority"), [(7, 7), (4, None), (2, 2)])
def test_a_queue_of_a_level_chooses_the_priority(
    given_priority: int, taken_priority: int | None
) -> None:
    header = taken(sent())[HEADER]
    call = call_of(header, run_id=RUN_ID, task=NAME, queue="slow", priority=given_priority)
    assert (call.priority, call.queue) == (taken_priority, "slow")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "cannot be read"),
        (b"[[], {}", "cannot be read"),
        (b"[[NaN], {}, {}]", "cannot be read"),
        (b'[["\\u0000"], {}, {}]', "cannot be read"),
        (b'[[], {"a": 1, "a": 2}, {}]', "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[" * 2000, "cannot be read"),
        (b"{}", "not \\[args, kwargs, embed\\]"),
        (b"[[], {}]", "not \\[args, kwargs, embed\\]"),
        (b"[{}, [], {}]", "not \\[args, kwargs, embed\\]"),
        (b'[[], {}, {"callbacks": [{"task": "x"}]}]', "carries callbacks"),
        (b'[[], {}, {"chord": {"task": "x"}}]', "carries chord"),
        (b'[["' + b"x" * 20_000 + b'"], {}, {}]', "bytes"),
    ],
)
def test_bodies_that_cannot_be_taken_are_refused(body: bytes, why: str) -> None:
    with pytest.raises(BadMessage, match=why):
        taken(made(body, dict(sent().headers)))


@pytest.mark.parametrize("header", [{"eta": "soon"}, {"eta": 5}, {"expires": [1]}, {"id": 7}])
def test_headers_that_cannot_be_taken_are_refused(header: dict[str, Any]) -> None:
    message = sent()
    message.headers.update(header)
    with pytest.raises(BadMessage):
        taken(message)


def test_odd_text_in_labels_is_made_fit_for_a_row() -> None:
    labels = taken(sent("x\x00y", origin="\ud800" + "o" * 999))[HEADER]["labels"]
    assert "\x00" not in labels["celery.id"]
    assert len(labels["celery.origin"]) <= 255
    labels["celery.origin"].encode()


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@given(
    body=st.binary(max_size=200) | values.map(lambda value: json.dumps([[value], {}, {}]).encode()),
    headers=st.dictionaries(st.sampled_from(["id", "eta", "expires", "origin", "task"]), values),
)
def test_no_message_raises_anything_else(body: bytes, headers: dict[str, Any]) -> None:
    try:
        clean = taken(made(body, {**sent().headers, **headers}))
    except BadMessage:
        return
    assert clean["id"] == str(uuid.UUID(clean["id"]))
