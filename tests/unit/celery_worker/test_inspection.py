import json
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.message import Message

from app.celery_worker import messages
from app.celery_worker.inspection import BadMessage, celery_builtins, cleaned
from app.celery_worker.site import UNKNOWN_TASK
from app.common.ids import new_id
from app.tasks.transport import Wakeup

NAN, INFINITE = float("nan"), float("inf")
OURS = {"test.task"}
KNOWN = {"test.task", "plain.task"}


def message(body: Any = messages.BODY, *, headers: Any = None, **basics: Any) -> Message:
    known = {"content_type": "application/json", "content_encoding": "utf-8", **basics}
    return Message(body=body, headers=headers, **known)


def ours(**more: Any) -> dict[str, Any]:
    return {"task": "test.task", "id": new_id(), **more}


def test_a_wake_up_of_ours_passes_unchanged() -> None:
    wakeup = Wakeup(new_id(), "test.task", "default", timeout_seconds=5, traceparent="00-a-b-01")
    clean = cleaned(message(headers=messages.headers_of(wakeup)), OURS, KNOWN)
    assert {
        name: clean.headers[name] for name in messages.headers_of(wakeup)
    } == messages.headers_of(wakeup)
    assert clean.payload == json.loads(messages.BODY)


def test_only_what_we_send_is_read() -> None:
    forged = ours(eta="x", expires=1, retries=9, stamped_headers=5, group="g", reply_to="me")
    body = b'[["forged"], {"a": 1}, {"callbacks": [{"task": "plain.task"}]}]'
    clean = cleaned(message(body, headers=forged), OURS, KNOWN)
    assert set(clean.headers) == {
        "lang",
        "task",
        "id",
        "root_id",
        "ignore_result",
        "retries",
        "timelimit",
    }
    assert clean.headers["retries"] == 0
    assert clean.payload == json.loads(messages.BODY)


def test_a_wake_up_for_an_unknown_task_goes_to_the_one_that_asks_the_row() -> None:
    wakeup = Wakeup(new_id(), "test.gone", "default", timeout_seconds=5)
    clean = cleaned(message(headers=messages.headers_of(wakeup)), OURS, KNOWN)
    assert clean.headers["task"] == UNKNOWN_TASK
    assert clean.headers["function"] == "test.gone"
    assert clean.headers["id"] == wakeup.run_id
    assert clean.headers["timelimit"] == [15.5, 5.5]


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b'[["x"], {}, null]', {"task": "test.gone", "id": new_id()}),
        (messages.BODY, {"task": "test.gone", "id": "7"}),
        (b'[["x"], {}, null]', {"task": UNKNOWN_TASK, "id": new_id()}),
    ],
    ids=["foreign body", "no run's id", "by its inner name"],
)
def test_an_unknown_task_is_refused_unless_it_may_be_a_runs(
    body: bytes, headers: dict[str, Any]
) -> None:
    with pytest.raises(BadMessage):
        cleaned(message(body, headers=headers), OURS, KNOWN | {UNKNOWN_TASK})


def test_the_inner_name_says_nothing_about_a_run() -> None:
    headers = {"task": UNKNOWN_TASK, "id": new_id(), "function": "test.task"}
    clean = cleaned(message(headers=headers), OURS, KNOWN | {UNKNOWN_TASK})
    assert clean.headers["function"] == UNKNOWN_TASK


def test_celerys_own_tasks_are_told_from_an_authors() -> None:
    app = Celery("test", set_as_current=False)
    for name in ("celery.of_an_author", "test.plain"):
        app.task(name=name, shared=False)(new_id)
    app.finalize()
    names = celery_builtins(app)
    assert {"celery.backend_cleanup", "celery.map", "celery.starmap", "celery.chunks"} <= names
    assert {"celery.group", "celery.chain", "celery.chord", "celery.chord_unlock"} <= names
    assert not names & {"celery.of_an_author", "test.plain"}


def test_a_plain_task_keeps_its_arguments() -> None:
    body = b'[[1, 2], {"a": 1}, null]'
    headers = {"task": "plain.task", "id": "any text", "retries": 2}
    clean = cleaned(message(body, headers=headers), OURS, KNOWN)
    assert clean.headers == headers
    assert clean.payload == [[1, 2], {"a": 1}, None]


@pytest.mark.parametrize(
    "headers",
    [
        None,
        {},
        {"task": 5},
        {"task": ["a"]},
        {"task": "nobody.knows", "id": "1"},
        {"task": "test.task"},
        {"task": "test.task", "id": 7},
        {"task": "test.task", "id": "7"},
        {"task": "test.task", "id": "0" * 10_000},
    ],
)
def test_headers_that_name_no_run_are_refused(headers: Any) -> None:
    with pytest.raises(BadMessage):
        cleaned(message(headers=headers), OURS, KNOWN)


@pytest.mark.parametrize(
    "limit",
    [
        "soon",
        5,
        [1],
        [1, 2, 3],
        [True, 1],
        ["1", 2],
        [0, 1],
        [-1, 1],
        [float("nan"), 1],
        [float("inf"), 1],
        {"a": 1},
    ],
)
def test_time_limits_that_are_none_are_refused(limit: Any) -> None:
    with pytest.raises(BadMessage, match="timelimit"):
        cleaned(message(headers=ours(timelimit=limit)), OURS, KNOWN)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        None,
        b"null",
        b"{}",
        b"[]",
        b"[1, 2, 3]",
        b'[[], {}, "x"]',
        b"[[], [], {}]",
        b"\xff\xfe",
        b"[" * 60_000,
        b"[[], {}, {}]" + b" " * 65_536,
        "[[], {}]",
    ],
)
def test_bodies_of_another_shape_are_refused(body: Any) -> None:
    with pytest.raises(BadMessage):
        cleaned(message(body, headers=ours()), OURS, KNOWN)


@pytest.mark.parametrize(
    "basics",
    [
        {"content_type": None},
        {"content_type": "application/x-python-serialize"},
        {"content_type": 5},
        {"content_encoding": "utf-99"},
        {"content_encoding": "binary"},
    ],
)
def test_other_content_types_and_encodings_are_refused(basics: dict[str, Any]) -> None:
    with pytest.raises(BadMessage):
        cleaned(message(headers=ours(), **basics), OURS, KNOWN)


def test_a_traceparent_that_is_no_text_is_left_out() -> None:
    assert "traceparent" not in cleaned(message(headers=ours(traceparent=5)), OURS, KNOWN).headers
    assert (
        "traceparent"
        not in cleaned(message(headers=ours(traceparent="x" * 999)), OURS, KNOWN).headers
    )


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)


names = st.sampled_from(["task", "id", "timelimit", "eta"])
bodies = st.binary(max_size=200) | st.text(max_size=200)


@given(body=bodies, headers=st.dictionaries(names, values))
def test_no_message_raises_anything_else(body: Any, headers: dict[str, Any]) -> None:
    try:
        cleaned(message(body, headers=headers), OURS, KNOWN)
    except BadMessage:
        return
