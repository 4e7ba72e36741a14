import re
from datetime import UTC, datetime, timedelta, timezone

import pytest

from app.common.clock import rfc3339, utc_now
from app.common.errors import (
    ConfigurationError,
    FieldError,
    NotFound,
    TaskyardError,
    TooManyRequests,
    ValidationFailed,
    all_errors,
)


def test_an_error_carries_what_its_answer_needs() -> None:
    fault = FieldError(("body", "a"), "is missing", "missing")
    error = ValidationFailed(
        "Wrong age.", hint="Count.", errors=[fault], headers={"Retry-After": "1"}
    )
    assert (error.detail, str(error), error.hint) == ("Wrong age.", "Wrong age.", "Count.")
    assert error.errors == (fault,)
    assert error.headers == {"Retry-After": "1"}
    assert error.status == 422


@pytest.mark.parametrize(("window", "told"), [(None, ""), (60, ";w=60")])
def test_a_limit_tells_what_it_is_and_when_to_come_back(window: int | None, told: str) -> None:
    error = TooManyRequests(policy="calls", limit=3, retry_after_seconds=7, window_seconds=window)
    assert error.status == 429
    assert error.headers == {
        "Retry-After": "7",
        "RateLimit-Policy": f'"calls";q=3{told}',
        "RateLimit": '"calls";r=0;t=7',
    }


def test_without_a_detail_the_title_speaks() -> None:
    error = NotFound()
    assert error.detail == str(error) == "Not found"
    assert (error.hint, error.errors, error.headers) == (None, (), {})


def test_every_error_has_a_code_a_status_and_a_meaning() -> None:
    errors = all_errors()
    assert [error.code for error in errors] == sorted({error.code for error in errors})
    assert {TaskyardError, NotFound, ConfigurationError} <= set(errors)
    for error in errors:
        assert re.fullmatch(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*", error.code), error
        assert 400 <= error.status <= 599, error
        assert error.title, error
        assert error.__doc__, error


def test_two_errors_of_one_family_do_not_share_a_code_by_accident() -> None:
    codes = [error.code for error in TaskyardError.__subclasses__()]
    assert len(codes) == len(set(codes))


def test_times_are_utc_with_a_z_and_microseconds() -> None:
    moment = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=1, minutes=30)))
    assert rfc3339(moment) == "2026-01-01T00:00:00.000000Z"
    assert rfc3339(moment.replace(microsecond=5)) == "2026-01-01T00:00:00.000005Z"


def test_now_is_aware() -> None:
    assert utc_now().tzinfo is UTC


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.code)
def test_titles_do_not_end_like_sentences(error: type[TaskyardError]) -> None:
    assert not error.title.endswith(".")
