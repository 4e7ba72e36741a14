"""What an attempt's error becomes, without a database."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from sqlalchemy.engine import Row

from app import Fatal, Retry
from app.common.clock import utc_now
from app.common.errors import Forbidden, ServiceUnavailable
from app.common.ids import new_id
from app.tasks.errors import RunCancelled
from app.tasks.journal import Line
from app.tasks.outcomes import MAX_MESSAGE, Told, error_document, failed, is_retryable, retry_delay
from app.tasks.retry import Backoff
from app.tasks.transitions import CANCEL_RUNNING, FAIL, RETRY

ANY = (Exception,)


def claim(attempt: int = 1, **options: Any) -> Row[Any]:
    policy = {"backoff_seconds": 4, "backoff_max_seconds": 10, "jitter": 0, **options}
    row = SimpleNamespace(
        id=new_id(),
        task="test.one",
        queue="default",
        tenant=None,
        attempt=attempt,
        max_attempts=3,
        options=policy,
    )
    return cast("Row[Any]", row)


@pytest.mark.parametrize(
    ("error", "retry_on", "again"),
    [
        (ValueError(), ANY, True),
        (ValueError(), (OSError,), False),
        (ConnectionError(), (OSError,), True),
        (Fatal("no"), ANY, False),
        (Fatal("no"), (Fatal,), False),
        (Retry(), (), True),
        (TimeoutError(), (), True),
        (SystemExit(1), ANY, True),
        (Forbidden("no"), ANY, False),
        (ServiceUnavailable("later"), ANY, True),
    ],
)
def test_which_errors_are_tried_again(
    error: BaseException, retry_on: tuple[type[BaseException], ...], again: bool
) -> None:
    assert is_retryable(error, retry_on) is again
    outcome = failed(claim(), error, retry_on, Told())
    assert outcome.transition is (RETRY if again else FAIL)
    assert outcome.values["error"]["retryable"] is again


def test_the_last_attempt_fails_with_a_dead_letter() -> None:
    row = claim(attempt=3)
    told = Told([Line(1, utc_now(), "info", "a", None)])
    outcome = failed(row, ValueError("no"), ANY, told)
    assert outcome.transition is FAIL
    assert outcome.dead_letter is not None
    assert outcome.values["dead_letter_id"] == outcome.dead_letter["id"]
    assert (outcome.dead_letter["run_id"], outcome.dead_letter["attempts"]) == (row.id, 3)
    assert outcome.told is told


def test_discard_has_no_dead_letter() -> None:
    outcome = failed(claim(attempt=3, on_failure="discard"), ValueError(), ANY, Told())
    assert outcome.dead_letter is None
    assert outcome.values["dead_letter_id"] is None


def test_a_cancelled_attempt_is_no_failure() -> None:
    assert failed(claim(), RunCancelled(), ANY, Told()).transition is CANCEL_RUNNING


def test_waits_double_up_to_the_limit() -> None:
    assert [retry_delay(claim(n), ValueError()) for n in (1, 2, 3)] == [4, 8, 10]
    assert retry_delay(claim(), Retry(after=7.5)) == 7.5
    assert retry_delay(claim(), Retry(after=-1)) == 0
    assert retry_delay(claim(), Retry()) == 4


def test_jitter_only_shortens() -> None:
    waits = {Backoff(10, 100, 0.25).delay(1) for _ in range(200)}
    assert len(waits) > 1
    assert all(7.5 <= wait <= 10 for wait in waits)


class Untold(Exception):
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("plain"), "plain"),
        (ValueError(), "ValueError"),
        (ValueError("a\x00b\ud800"), "a\ufffdb?"),
        (ValueError("amqp://u:hunter2@h"), "amqp://u:**********@h"),
        (ValueError("x" * 9000), "x" * MAX_MESSAGE),
        (Untold(), "Untold"),
    ],
)
def test_what_clients_see_of_an_error(error: Exception, message: str) -> None:
    told = error_document(error, retryable=True)
    assert told == {"type": type(error).__name__, "message": message, "retryable": True}
