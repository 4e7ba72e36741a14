import json
from collections.abc import Callable
from uuid import UUID

import pytest
from prometheus_client import REGISTRY
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.testing import capture_logs

from app.api.errors import UriTooLong
from app.api.facts import facts_of
from app.api.middleware.access import AccessMiddleware
from app.api.middleware.failures import FailureMiddleware
from app.api.middleware.head import HeadMiddleware
from app.api.middleware.security_headers import SecurityHeadersMiddleware
from app.api.middleware.tracing import TraceMiddleware
from app.common.tracing import current_trace_id
from tests.unit.api.asgi import Answer, call, hello, http_scope

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _raising(error: Exception, *, after_start: bool = False) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after_start:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise error

    return app


async def _traced(*headers: tuple[bytes, bytes]) -> Answer:
    return await call(TraceMiddleware(hello), http_scope(headers=list(headers)))


class TestTrace:
    async def test_the_callers_ids_are_kept(self) -> None:
        answer = await _traced((b"x-request-id", b"order-12345"), (b"traceparent", PARENT.encode()))
        assert answer.headers["x-request-id"] == "order-12345"
        version, trace_id, span_id, _ = answer.headers["traceresponse"].split("-")
        assert (version, trace_id) == ("00", "0af7651916cd43dd8448eb211c80319c")
        assert span_id != "b7ad6b7169203331"

    @pytest.mark.parametrize(
        "value",
        [
            b"1",
            b"a" * 128,
            b"Root=1-67891233-abcdef012345678912345678",
            b"105445aa7843bc8bf206b12000100000/1;o=1",
            b"3f2a.web:17,18",
        ],
    )
    async def test_the_ids_of_gateways_are_kept(self, value: bytes) -> None:
        answer = await _traced((b"x-request-id", value))
        assert answer.headers["x-request-id"] == value.decode()

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"two words",
            b"a" * 129,
            b"x\r\nSet-Cookie: a=b",
            b"\x1b[31mredredred",
            b"${jndi:ldap://x}",
            b"\xff" * 9,
        ],
    )
    async def test_a_bad_request_id_is_replaced(self, value: bytes) -> None:
        answer = await _traced((b"x-request-id", value))
        assert UUID(answer.headers["x-request-id"]).version == 7

    async def test_two_request_ids_are_none(self) -> None:
        answer = await _traced((b"x-request-id", b"order-12345"), (b"x-request-id", b"order-99999"))
        assert UUID(answer.headers["x-request-id"]).version == 7

    @pytest.mark.parametrize(
        "value", [b"", b"00-xyz", PARENT.upper().encode(), PARENT.encode() * 2]
    )
    async def test_a_bad_traceparent_starts_a_new_trace(self, value: bytes) -> None:
        answer = await _traced((b"traceparent", value))
        assert "0af7651916cd43dd8448eb211c80319c" not in answer.headers["traceresponse"]

    async def test_the_trace_is_bound_only_inside_the_request(self) -> None:
        seen: list[str | None] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(current_trace_id())

        scope = http_scope(headers=[(b"traceparent", PARENT.encode())])
        await call(TraceMiddleware(app), scope)
        assert [*seen, current_trace_id()] == ["0af7651916cd43dd8448eb211c80319c", None]


class TestAccess:
    async def test_a_request_is_logged_and_counted_by_its_route(self) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            facts = facts_of(scope)
            facts.route, facts.user = "/api/v1/tasks/{task_id}", "ann"
            await hello(scope, receive, send)

        labels = {"method": "GET", "route": "/api/v1/tasks/{task_id}", "status": "200"}
        before = REGISTRY.get_sample_value("taskyard_http_requests_total", labels) or 0
        with capture_logs() as lines:
            await call(AccessMiddleware(app), http_scope(path="/api/v1/tasks/1"))
        after = REGISTRY.get_sample_value("taskyard_http_requests_total", labels)
        assert after == before + 1
        (line,) = lines
        assert line["route"] == "/api/v1/tasks/{task_id}"
        assert (line["user"], line["status"], line["method"]) == ("ann", 200, "GET")
        assert line["duration_ms"] >= 0

    async def test_unknown_paths_and_methods_share_a_label(self) -> None:
        with capture_logs() as lines:
            await call(AccessMiddleware(hello), http_scope(method="BREW", path="/a/b/c"))
        labels = {"method": "OTHER", "route": "unmatched", "status": "200"}
        assert REGISTRY.get_sample_value("taskyard_http_requests_total", labels)
        assert lines[0]["method"] == "OTHER"
        assert not REGISTRY.get_sample_value(
            "taskyard_http_requests_total", {**labels, "method": "BREW"}
        )

    async def test_control_characters_do_not_reach_the_log(self) -> None:
        scope = {**http_scope(path="/"), "raw_path": b"/%1b[31m\xff" + b"a" * 900}
        with capture_logs() as lines:
            await call(AccessMiddleware(hello), scope)
        assert lines[0]["path"].startswith("/%1b[31m\\xff")
        assert len(lines[0]["path"]) < 250

    async def test_a_request_that_nobody_answered_is_499(self) -> None:
        async def silent(scope: Scope, receive: Receive, send: Send) -> None: ...

        with capture_logs() as lines:
            await call(AccessMiddleware(silent), http_scope())
        assert lines[0]["status"] == 499


class TestFailures:
    async def test_an_unexpected_error_says_nothing_but_is_logged(self) -> None:
        with capture_logs() as lines:
            answer = await call(
                TraceMiddleware(FailureMiddleware(_raising(KeyError("s3cret")))), http_scope()
            )
        problem = json.loads(answer.body)
        assert answer.status == problem["status"] == 500
        assert answer.headers["content-type"] == "application/problem+json"
        assert problem["code"] == "INTERNAL_ERROR"
        assert len(problem["trace_id"]) == 32
        assert b"s3cret" not in answer.body
        assert b"Traceback" not in answer.body
        assert [line["log_level"] for line in lines] == ["error"]

    async def test_our_own_errors_keep_their_code_and_headers(self) -> None:
        error = UriTooLong("too long", headers={"Connection": "close"})
        answer = await call(FailureMiddleware(_raising(error)), http_scope())
        assert answer.status == 414
        assert answer.headers["connection"] == "close"
        assert json.loads(answer.body)["code"] == "URI_TOO_LONG"

    async def test_a_service_that_is_away_is_503_with_retry_after(self) -> None:
        answer = await call(FailureMiddleware(_raising(ConnectionRefusedError())), http_scope())
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) > 0

    async def test_a_client_that_left_is_no_error(self) -> None:
        with capture_logs() as lines:
            answer = await call(FailureMiddleware(_raising(ClientDisconnect())), http_scope())
        assert answer.status is None
        assert [line["log_level"] for line in lines] == ["info"]

    async def test_after_the_start_of_an_answer_the_connection_ends(self) -> None:
        with pytest.raises(KeyError):
            await call(FailureMiddleware(_raising(KeyError(), after_start=True)), http_scope())


class TestHeaders:
    async def test_every_answer_is_guarded(self) -> None:
        answer = await call(SecurityHeadersMiddleware(hello), http_scope())
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["content-security-policy"]

    async def test_a_page_may_set_its_own_policy(self) -> None:
        async def page(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"content-security-policy", b"default-src 'self'")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})

        answer = await call(SecurityHeadersMiddleware(page), http_scope())
        assert answer.headers["content-security-policy"] == "default-src 'self'"

    async def test_head_is_get_without_its_body(self) -> None:
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope["method"])
            await hello(scope, receive, send)

        scope = http_scope(method="HEAD")
        answer = await call(HeadMiddleware(app), scope)
        assert (answer.status, answer.body, seen) == (200, b"", ["GET"])
        assert scope["method"] == "HEAD"

    async def test_get_keeps_its_body(self) -> None:
        assert (await call(HeadMiddleware(hello), http_scope())).body == b"GET"


@pytest.mark.parametrize(
    "middleware",
    [
        TraceMiddleware,
        AccessMiddleware,
        FailureMiddleware,
        SecurityHeadersMiddleware,
        HeadMiddleware,
    ],
)
async def test_other_protocols_pass_untouched(middleware: Callable[[ASGIApp], ASGIApp]) -> None:
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope["type"])

    async def nothing() -> Message:
        raise AssertionError

    async def ignore(message: Message) -> None:
        raise AssertionError

    await middleware(app)({"type": "lifespan"}, nothing, ignore)
    assert seen == ["lifespan"]
