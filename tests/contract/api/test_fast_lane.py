"""What the short way of `POST /tasks/run` answers is what the route answers, to the byte.

A preference that means nothing sends the same request through the route.
"""

import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from app.api.fast_lane import FastLane
from app.common.metrics import HTTP_REQUESTS
from tests.contract.api.harness import Api

RUN = "/api/v1/tasks/run"
GOOD: dict[str, Any] = {"task": "sample.add_numbers", "params": {"a": 1}}
THROUGH_THE_ROUTE = {"Prefer": "respond-async"}
# What differs from one request to the next.
OWN = ("x-request-id", "traceresponse", "location")

BODIES: dict[str, Any] = {
    "plain": GOOD,
    "delayed": {**GOOD, "options": {"delay_seconds": 60, "priority": 9}},
    "due at a moment": {**GOOD, "options": {"run_at": "2099-01-01T00:00:00Z"}},
    "labelled": {**GOOD, "labels": {"team": "a"}},
    "of an unknown task": {**GOOD, "task": "no.such_task"},
    "with wrong parameters": {**GOOD, "params": {"a": "x"}},
    "without parameters": {"task": "sample.add_numbers"},
    "with a wrong option": {**GOOD, "options": {"priority": 10}},
    "with an option that no run can have": {**GOOD, "options": {"queue": "nowhere"}},
    "with two due times": {
        **GOOD,
        "options": {"delay_seconds": 1, "run_at": "2099-01-01T00:00:00Z"},
    },
    "with an unknown field": {**GOOD, "colour": "red"},
    "with a number for text": {**GOOD, "labels": {"team": 1}},
    "a list": [GOOD],
    "null": None,
    "nested too deep": {**GOOD, "params": json.loads("[" * 70 + "]" * 70)},
}
TEXTS = {
    "no JSON": b"{",
    "a NaN": b'{"task": "sample.add_numbers", "params": {"a": NaN}}',
    "a doubled key": b'{"task": "a.b", "task": "a.c"}',
    "a NUL": b'{"task": "sample.add_numbers", "params": {"a": "\\u0000"}}',
    "no UTF-8": b'{"task": "\xff"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "white space": b" ",
}


def shape(answer: Any) -> tuple[Any, ...]:
    """Return everything of an answer but what is its own: ids, moments, what they are made of."""
    own = {name: answer.headers[name] for name in OWN if name in answer.headers}
    body = answer.text
    document = answer.json()
    for value in (document.get("task_id"), document.get("created_at"), document.get("trace_id")):
        if value:
            body = body.replace(value, "*" * len(value))
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in own]
    return answer.status_code, [name for name, _ in answer.headers.multi_items()], headers, body


def both(api: Api, role: str | None = "operator", **request: Any) -> tuple[Any, Any]:
    headers = {"Content-Type": "application/json", **request.pop("headers", {})}
    lane = api.post(RUN, role, headers=headers, **request)
    route = api.post(RUN, role, headers={**headers, **THROUGH_THE_ROUTE}, **request)
    return lane, route


@pytest.mark.parametrize("name", BODIES)
def test_every_body_is_answered_as_by_the_route(api: Api, name: str) -> None:
    lane, route = both(api, content=json.dumps(BODIES[name]).encode())
    assert shape(lane) == shape(route)


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_json_is_refused_as_by_the_route(api: Api, name: str) -> None:
    lane, route = both(api, content=TEXTS[name])
    assert lane.status_code >= 400
    assert shape(lane) == shape(route)


@pytest.mark.parametrize("token", [None, "", "Bearer", "Bearer x", "Basic YTpi", "Bearer a.b.c"])
def test_who_is_nobody_is_refused_as_by_the_route(api: Api, token: str | None) -> None:
    headers = {} if token is None else {"Authorization": token}
    lane, route = both(api, None, headers=headers, content=json.dumps(GOOD).encode())
    assert lane.status_code == 401
    assert shape(lane) == shape(route)


def test_who_may_not_is_refused_as_by_the_route(api: Api) -> None:
    lane, route = both(api, "viewer", content=json.dumps(GOOD).encode())
    assert lane.status_code == 403
    assert shape(lane) == shape(route)


def test_a_body_of_another_size_or_type_is_answered_as_by_the_route(api: Api) -> None:
    large = {**GOOD, "labels": {"padding": "x" * 255}, "params": {"a": 1, "b": 2}}
    for content, headers in (
        (b"", {}),
        (json.dumps(GOOD).encode(), {"Content-Type": "text/plain"}),
        (json.dumps(GOOD).encode(), {"Content-Type": "application/json; charset=utf-8"}),
        (json.dumps(GOOD).encode(), {"Content-Encoding": "gzip"}),
        (json.dumps(large).encode() + b" " * 100_000, {}),
    ):
        lane, route = both(api, content=content, headers=headers)
        assert shape(lane) == shape(route)


def test_the_lane_takes_the_plain_request_and_no_other(api: Api) -> None:
    passed: list[Scope] = []

    async def route(scope: Scope, _receive: Receive, _send: Send) -> None:
        passed.append(scope)

    lane = FastLane(route)
    content = json.dumps(GOOD).encode()
    plain = {
        "host": "x",
        "authorization": f"Bearer {api.tokens['operator']}",
        "content-type": "application/json",
        "content-length": str(len(content)),
    }

    def ask(
        method: str = "POST",
        path: str = RUN,
        query: bytes = b"",
        more: dict[str, str] | None = None,
    ) -> bool:
        """Return whether the lane has answered itself."""
        headers = {**plain, **(more or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "app": api.app,
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": content}

        async def send(message: Message) -> None:
            sent.append(message)

        passed.clear()
        assert api.client.portal is not None
        api.client.portal.call(lane, scope, receive, send)
        assert bool(sent) != bool(passed)
        return bool(sent)

    assert ask()
    assert not ask(method="GET")
    assert not ask(path="/api/v1/tasks/runs")
    assert not ask(query=b"a=1")
    for name, value in {
        "idempotency-key": "k",
        "prefer": "wait=1",
        "content-encoding": "identity",
        "content-type": "text/json",
        "content-length": "1000000",
        "authorization": "Basic YTpi",
    }.items():
        assert not ask(more={name: value}), name


def test_metrics_and_the_log_know_the_route(api: Api) -> None:
    counter = HTTP_REQUESTS.labels("POST", RUN, "202")
    before = counter._value.get()  # noqa: SLF001 - the library has no other way to read it
    api.run("sample.add_numbers", {"a": 1})
    assert counter._value.get() == before + 1  # noqa: SLF001


def test_a_request_id_and_a_trace_are_kept(api: Api) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    headers = {"X-Request-ID": "mine-1", "traceparent": f"00-{trace}-b7ad6b7169203331-01"}
    answer = api.post(RUN, json=GOOD, headers=headers)
    assert answer.status_code == 202
    assert answer.headers["x-request-id"] == "mine-1"
    assert trace in answer.headers["traceresponse"]
    assert api.get(answer.headers["location"]).json()["trace_id"] == trace
