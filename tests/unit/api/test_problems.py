import json
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from sqlalchemy import exc
from starlette.exceptions import HTTPException

from app.api.outages import is_outage
from app.api.problems import MAX_ERRORS, problem_response
from app.common.errors import FieldError, NotFound, ValidationFailed


def _problem(error: Exception) -> dict[str, Any]:
    response = problem_response(error)
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = json.loads(bytes(response.body))
    assert problem["status"] == response.status_code
    return problem


def test_our_errors_have_every_member() -> None:
    error = ValidationFailed(
        "wrong", hint="do this", errors=[FieldError(("body", "a", 0), "too small", "greater_than")]
    )
    assert _problem(error) == {
        "type": "/api/v1/errors/VALIDATION_FAILED",
        "title": "Validation failed",
        "status": 422,
        "detail": "wrong",
        "code": "VALIDATION_FAILED",
        "trace_id": None,
        "errors": [{"loc": ["body", "a", 0], "msg": "too small", "type": "greater_than"}],
        "hint": "do this",
    }


def test_absent_members_are_left_out() -> None:
    assert set(_problem(NotFound("gone"))) == {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "trace_id",
    }


def test_what_was_sent_is_not_echoed() -> None:
    entry = {
        "loc": ("body", "p"),
        "msg": "no",
        "type": "t",
        "input": "hunter2",
        "ctx": {"e": "hunter2"},
    }
    assert "hunter2" not in json.dumps(_problem(RequestValidationError([entry])))


def test_many_faults_are_counted_and_cut() -> None:
    entries = [{"loc": ("body", str(number)), "msg": "no", "type": "t"} for number in range(5000)]
    problem = _problem(RequestValidationError(entries))
    assert len(problem["errors"]) == MAX_ERRORS
    assert problem["detail"].startswith("5000 ")


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "BAD_REQUEST"),
        (401, "UNAUTHORIZED"),
        (403, "FORBIDDEN"),
        (404, "NOT_FOUND"),
        (409, "CONFLICT"),
        (413, "PAYLOAD_TOO_LARGE"),
        (415, "UNSUPPORTED_MEDIA_TYPE"),
        (418, "HTTP_ERROR"),
        (429, "TOO_MANY_REQUESTS"),
        (503, "SERVICE_UNAVAILABLE"),
        (599, "HTTP_ERROR"),
    ],
)
def test_an_http_exception_gets_the_code_of_its_status(status: int, code: str) -> None:
    problem = _problem(HTTPException(status))
    assert problem["code"] == code
    assert problem["detail"]


def test_an_http_exception_keeps_its_text_and_headers() -> None:
    error = HTTPException(404, "Job not found", headers={"X-A": "b"})
    assert _problem(error)["detail"] == "Job not found"
    assert problem_response(error).headers["x-a"] == "b"


@pytest.mark.parametrize(
    ("status", "header"), [(401, "www-authenticate"), (429, "retry-after"), (503, "retry-after")]
)
def test_a_status_brings_the_header_that_it_needs(status: int, header: str) -> None:
    assert problem_response(HTTPException(status)).headers[header]


def test_texts_are_bounded_and_encodable() -> None:
    problem = _problem(NotFound("\ud800" + "a" * 5000))
    assert problem["detail"].startswith("\\ud800a")
    assert len(problem["detail"]) < 600


@pytest.mark.parametrize(
    "error",
    [
        ConnectionRefusedError(),
        TimeoutError(),
        OSError("Multiple exceptions: ..."),
        exc.TimeoutError(),
        exc.OperationalError("SELECT 1", None, Exception()),
        exc.InterfaceError("SELECT 1", None, Exception()),
        exc.DBAPIError("SELECT 1", None, Exception(), connection_invalidated=True),
    ],
)
def test_a_service_that_is_away_is_503(error: Exception) -> None:
    assert is_outage(error)
    assert _problem(error)["code"] == "SERVICE_UNAVAILABLE"


@pytest.mark.parametrize(
    "error", [KeyError("x"), FileNotFoundError("x"), exc.DataError("SELECT 1", None, Exception())]
)
def test_a_mistake_of_ours_is_500(error: Exception) -> None:
    assert not is_outage(error)
    assert _problem(error)["code"] == "INTERNAL_ERROR"
