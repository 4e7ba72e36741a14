import base64
import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from kombu.message import Message

from app.celery_worker.dead_letters import facts_of, plain
from app.celery_worker.messages import BODY
from app.common.ids import new_id

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


def letter(body: Any = b"[]", headers: Any = None, **basics: Any) -> Message:
    return Message(body=body, headers=headers, content_type="application/json", **basics)


def test_a_rejected_run_is_told_with_its_history() -> None:
    run_id = new_id()
    death = {
        "count": 1,
        "reason": "rejected",
        "queue": "q",
        "time": datetime(2026, 1, 1, tzinfo=UTC),
    }
    facts = facts_of(letter(headers={"id": run_id, "task": "t.x", "x-death": [death]}), "default")
    assert facts["queue"] == "default"
    assert facts["run_id"] == run_id
    assert facts["task"] == "t.x"
    assert facts["reason"] == "rejected"
    assert facts["death"] == [{**death, "time": "2026-01-01T00:00:00+00:00"}]
    assert "x-death" not in facts["headers"]
    assert (facts["body"], facts["body_encoding"], facts["body_bytes"]) == ("[]", "utf-8", 2)


def test_our_own_letters_and_foreign_ones_have_a_reason_too() -> None:
    assert facts_of(letter(headers={"x-error-type": "ValueError"}), "q")["reason"] == "failed"
    assert facts_of(letter(), "q")["reason"] == "unknown"
    assert facts_of(letter(headers={"x-death": [5]}), "q")["reason"] == "unknown"


def test_only_a_message_made_as_ours_speaks_for_its_run() -> None:
    assert facts_of(letter(BODY), "q")["is_wakeup"]
    assert not facts_of(letter(b"[[1], {}, {}]"), "q")["is_wakeup"]
    other = letter(BODY)
    other.content_type = "text/plain"
    assert not facts_of(other, "q")["is_wakeup"]


def test_bytes_that_are_no_text_are_kept_as_base64() -> None:
    facts = facts_of(letter(b"\xff\x00"), "q")
    assert base64.b64decode(facts["body"]) == b"\xff\x00"
    assert facts["body_encoding"] == "base64"
    assert facts_of(letter(b"a\x00b"), "q")["body_encoding"] == "base64"


def test_a_long_body_is_cut_and_its_size_told() -> None:
    facts = facts_of(letter(b"x" * 100_000), "q")
    assert len(facts["body"]) == 65_536
    assert facts["body_bytes"] == 100_000
    assert facts["fingerprint"] != facts_of(letter(b"x" * 100_001), "q")["fingerprint"]


def test_headers_of_any_type_become_plain() -> None:
    headers = {
        "task": 5,
        "id": ["x"],
        "a\0b": "c\ud800d\0",
        "n": 2**70,
        "f": float("nan"),
        "b": b"\xff",
    }
    facts = facts_of(letter(headers=headers), "q")
    assert facts["task"] is None
    assert facts["run_id"] is None
    assert facts["headers"] == {
        "task": 5,
        "id": ["x"],
        "a\N{REPLACEMENT CHARACTER}b": "c?d\N{REPLACEMENT CHARACTER}",
        "n": str(2**70),
        "f": "nan",
        "b": base64.b64encode(b"\xff").decode(),
    }


def test_depth_and_width_are_bounded() -> None:
    deep: Any = "end"
    for _ in range(50):
        deep = [deep]
    assert len(json.dumps(plain(deep))) < 200
    assert len(plain(list(range(1000)))) == 100
    assert len(plain({str(number): 1 for number in range(1000)})) == 100


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(st.binary() | st.text(), st.dictionaries(st.text(), values))
def test_every_letter_becomes_json_that_a_database_takes(
    body: Any, headers: dict[str, Any]
) -> None:
    text = json.dumps(facts_of(letter(body, headers), "q"), allow_nan=False)
    text.encode("utf-8")
    assert "\\u0000" not in text.replace("\\\\", "")


def test_a_message_that_comes_again_says_the_same() -> None:
    first, again = (
        facts_of(letter(headers={"note": 1, "x-delivery-count": count}), "q") for count in (0, 1)
    )
    assert first == again
    assert first["headers"] == {"note": 1}
