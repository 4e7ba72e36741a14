"""Bad input: bodies (B), queries and paths, framing (H), keys, authorization (Z)."""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import assert_problem

RUN = "/api/v1/tasks/run"
JSON = {"Content-Type": "application/json"}
GOOD = b'{"task": "sample.add_numbers", "params": {"a": 1}}'


@pytest.fixture(autouse=True)
def nothing_is_left_behind(api: Api) -> Iterator[None]:
    """A refused request leaves no row and no message."""
    before = _newest(api)
    sent = len(api.transport.sent)
    yield
    assert (_newest(api), len(api.transport.sent)) == (before, sent)


def _newest(api: Api) -> list[str]:
    listed = api.get("/api/v1/tasks?limit=1", "operator").json()["items"]
    return [run["task_id"] for run in listed]


def _params(raw: str) -> bytes:
    return f'{{"task": "sample.add_numbers", "params": {{"a": 1, "note": {raw}}}}}'.encode()


def _with(**changes: Any) -> bytes:
    return json.dumps({"task": "sample.add_numbers", "params": {"a": 1}, **changes}).encode()


def _option(name: str, value: Any) -> bytes:
    return _with(options={name: value})


BODIES = {
    "B1 empty": (b"", 422),
    "B2 null": (b"null", 422),
    "B2 list": (b"[]", 422),
    "B2 text": (b'"x"', 422),
    "B2 number": (b"1", 422),
    "B3 not JSON": (b"nonsense", 400),
    "B3 trailing brace": (GOOD + b"}", 400),
    "B3 comment": (b"// hi\n" + GOOD, 400),
    "B3 single quotes": (b"{'task': 'x'}", 400),
    "B3 cut off": (GOOD[:-1], 400),
    "B5 UTF-16": (GOOD.decode().encode("utf-16"), 400),
    "B5 UTF-32": (GOOD.decode().encode("utf-32"), 400),
    "B6 not UTF-8": (b'{"task": "\xff"}', 400),
    "B7 byte order mark": (b"\xef\xbb\xbf" + GOOD, 400),
    "B8 NaN": (_params("NaN"), 422),
    "B8 Infinity": (_params("Infinity"), 422),
    "B8 -Infinity": (_params("-Infinity"), 422),
    "B8 1e999": (_params("1e999"), 422),
    "B9 surrogate in a value": (_params('"\\ud800"'), 422),
    "B9 surrogate in a key": (b'{"task": "sample.add_numbers", "params": {"\\udfff": 1}}', 422),
    "B9 surrogate in the task": (b'{"task": "\\ud800"}', 422),
    "B10 NUL": (_params('"a\\u0000b"'), 422),
    "B11 400 digits": (_params("9" * 400), 422),
    "B11 5000 digits": (_params("9" * 5000), 400),
    "B12 deep": (_params("[" * 70 + "]" * 70), 422),
    "B12 very deep": (_params("[" * 100_000 + "]" * 100_000), 400),
    "B13 doubled key": (b'{"task": "a", "task": "b"}', 400),
    "B13 doubled key inside": (b'{"task": "a", "params": {"a": 1, "a": 2}}', 400),
    "B14 many keys": (_with(**{f"k{number}": 1 for number in range(50_000)}), 422),
    "B14 many elements": (_params(json.dumps([1] * 1_000_000)), 413),
    "B15 long text": (_params(json.dumps("x" * 5_000_000)), 413),
    "B16 unknown task": (_with(task="sample.nothing"), 404),
    "B17 path as task": (_with(task="../x"), 404),
    "B17 module as task": (_with(task="os.system"), 404),
    "B17 dunder as task": (_with(task="__class__"), 404),
    "B17 long task": (_with(task="x" * 10_000), 422),
    "B17 empty task": (_with(task=""), 422),
    "B17 confusable": (_with(task="s\u0430mple.add_numbers"), 404),
    "B18 missing": (_with(params={}), 422),
    "B18 extra": (_with(params={"a": 1, "c": 1}), 422),
    "B18 wrong type": (_with(params={"a": []}), 422),
    "B18 params no object": (_with(params=[1]), 422),
    "B19 bool for int": (_with(params={"a": True}), 422),
    "B19 text for int": (_with(params={"a": "1"}), 422),
    "B19 float for int": (_with(params={"a": 1.5}), 422),
    "B20 beyond int64": (_with(params={"a": 2**63}), 422),
    "B21 no date": (_option("run_at", "9999-99-99"), 422),
    "B21 year 10000": (_option("run_at", "10000-01-01T00:00:00Z"), 422),
    "B21 naive": (_option("run_at", "2030-01-01T00:00:00"), 422),
    "B21 number": (_option("run_at", 1893456000), 422),
    "B22 too far": (_option("run_at", "2999-01-01T00:00:00Z"), 422),
    "B23 negative delay": (_option("delay_seconds", -1), 422),
    "B23 huge delay": (_option("delay_seconds", 1e12), 422),
    "B23 delay as text": (_option("delay_seconds", "5"), 422),
    "B23 both times": (
        _with(options={"delay_seconds": 1, "run_at": "2030-01-01T00:00:00Z"}),
        422,
    ),
    "B24 priority 11": (_option("priority", 11), 422),
    "B24 priority -1": (_option("priority", -1), 422),
    "B24 priority true": (_option("priority", True), 422),
    "B25 unknown queue": (_option("queue", "nowhere"), 422),
    "B25 odd queue": (_option("queue", "../default"), 422),
    "B26 no attempts": (_option("max_attempts", 0), 422),
    "B26 many attempts": (_option("max_attempts", 10**9), 422),
    "B27 no time": (_option("timeout_seconds", 0), 422),
    "B27 much time": (_option("timeout_seconds", 10**9), 422),
    "expired": (_option("expires_at", "2020-01-01T00:00:00Z"), 422),
    "unknown option": (_option("callback_url", "http://127.0.0.1"), 422),
    "label name": (_with(labels={"a b": "c"}), 422),
    "label value": (_with(labels={"a": 1}), 422),
    "many labels": (_with(labels={f"l{number}": "" for number in range(33)}), 422),
    "Z5 status": (_with(status="SUCCEEDED"), 422),
    "Z5 tenant": (_with(tenant="other"), 422),
    "Z5 id": (_with(task_id=str(uuid.uuid4())), 422),
    "Z5 created_by": (_with(created_by="root"), 422),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_refused(api: Api, case: str) -> None:
    raw, status = BODIES[case]
    assert_problem(api.post(RUN, content=raw, headers=JSON), status)


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_refused_when_a_task_is_registered(api: Api, case: str) -> None:
    raw, _ = BODIES[case]
    answer = api.post("/api/v1/tasks/register", content=raw, headers=JSON)
    assert_problem(answer, answer.status_code)
    assert answer.status_code in (400, 413, 422)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": ""},
        {},
        {**JSON, "Content-Encoding": "gzip"},
        {**JSON, "Content-Encoding": "br"},
    ],
    ids=["text", "form", "multipart", "utf-16", "empty", "none", "gzip", "br"],
)
def test_another_type_or_encoding_is_415(api: Api, headers: dict[str, str]) -> None:
    assert_problem(api.post(RUN, content=GOOD, headers=headers), 415)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=-1", "limit=1000000000", "limit=" + "9" * 1900, "limit=ten", "limit=1.5",
        "limit=%00", "limit=1&limit=2", "limit=", "status=XYZ", "status=succeeded", "nope=1",
        "sort=password", "tenant_id=other", "task=a&task=b", "q=", "q=" + "a" * 5000, "q=%00",
        "created_after=yesterday", "created_after=2030-01-01T00:00:00", "created_after=%00",
        "created_after=2030-01-01T00:00:00Z&created_before=2029-01-01T00:00:00Z",
        "created_before=2030-01-01T00:00:00+99:00", "batch_id=nope", "parent_id=1", "trace_id=xyz",
        "label.a%22b=1", "label.=1", "label.a=" + "x" * 300, "label.a=1&label.a=2",
        "&".join(f"label.l{number}=1" for number in range(40)), "access_token=abc",
    ],
)  # fmt: skip
def test_a_bad_query_is_422(api: Api, query: str) -> None:
    assert_problem(api.get(f"/api/v1/tasks?{query}"), 422)


@pytest.mark.parametrize(
    "query", ["q=%25", "q=_", "q=%5C", "q='%3B--", "q=.*", "task=%F0%9F%92%A5", "%F0=1"]
)
def test_odd_text_in_a_query_is_only_text(api: Api, query: str) -> None:
    answer = api.get(f"/api/v1/tasks?{query}")
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        assert answer.json()["items"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/tasks/%00", "/api/v1/tasks/..%2fconfig", "/api/v1/tasks/a%0d%0ab", "/api/v1/Tasks",
        "/api/v1/tasks/" + "a" * 4000, "//api/v1/tasks", "/api/v1/tasks/", "/api//v1/tasks",
        "/api/v1/%2e%2e/v1/tasks", "/API/v1/tasks", "/api/v1/tasks/%ff%fe", "/", "/%5c", "/api/v1",
        "/docs/..%2f..%2fapplication.py", "/docs/README.md", "/static/x",
    ],
)  # fmt: skip
def test_an_odd_path_is_404(api: Api, path: str) -> None:
    assert_problem(api.get(path), 404)


def test_a_long_path_is_414(api: Api) -> None:
    assert_problem(api.get("/api/v1/tasks/" + "a" * 60_000), 414)
    assert_problem(api.get("/api/v1/tasks?q=" + "a" * 60_000), 414)


@pytest.mark.parametrize(
    "headers",
    [{"X-Long": "a" * 100_000}, {f"X-{number}": "a" for number in range(2000)}],
    ids=["H9 long", "H9 many"],
)
def test_large_headers_are_431(api: Api, headers: dict[str, str]) -> None:
    assert_problem(api.get("/api/v1/tasks", headers=headers), 431)


@pytest.mark.parametrize(
    "headers",
    [
        [("Content-Length", "5"), ("Transfer-Encoding", "chunked")],
        [("Content-Length", "-5")],
        [("Content-Length", "5"), ("Content-Length", "5")],
        [("Content-Length", "5x")],
        [("Host", "a"), ("Host", "b")],
        [("Host", "a b")],
    ],
    ids=["H5 both", "H4 negative", "H4 double", "H4 no number", "H12 two hosts", "H12 odd host"],
)
def test_doubtful_framing_is_400(api: Api, headers: list[tuple[str, str]]) -> None:
    token = [("Authorization", f"Bearer {api.tokens['operator']}"), *JSON.items()]
    answer = api.client.request("POST", RUN, headers=[*token, *headers], content=iter([GOOD]))
    assert_problem(answer, 400)


def test_a_method_override_is_ignored(api: Api) -> None:
    headers = {"X-HTTP-Method-Override": "DELETE"}
    assert (
        api.get("/api/v1/tasks/registered/sample.add_numbers", headers=headers).status_code == 200
    )


def test_an_accept_header_changes_nothing(api: Api) -> None:
    answer = api.get("/api/v1/tasks?limit=1", headers={"Accept": "text/xml"})
    assert answer.headers["content-type"] == "application/json"


def test_no_origin_gets_credentials(api: Api) -> None:
    answer = api.get("/api/v1/tasks?limit=1", headers={"Origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_two_authorization_headers_are_401(api: Api) -> None:
    header = ("Authorization", f"Bearer {api.tokens['operator']}")
    answer = api.client.request("GET", "/api/v1/tasks", headers=[header, header])
    assert_problem(answer, 401)


@pytest.mark.parametrize("name", ["access_token", "token", "authorization"])
def test_a_token_in_the_query_is_not_read(api: Api, name: str) -> None:
    assert_problem(api.get(f"/api/v1/tasks?{name}={api.tokens['operator']}", role=None), 401)


def test_two_idempotency_keys_are_400(api: Api) -> None:
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    token = [("Authorization", f"Bearer {api.tokens['operator']}")]
    answer = api.client.request("POST", RUN, headers=[*token, *JSON.items(), *keys], content=GOOD)
    assert_problem(answer, 400)


def test_reading_is_not_running(api: Api) -> None:
    answer = api.post(RUN, "viewer", content=GOOD, headers=JSON)
    assert_problem(answer, 403)
    assert "tasks:run" in answer.json()["detail"]
    assert 'scope="tasks:run"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("path", ["/api/v1/config", "/api/v1/users", "/metrics"])
def test_what_is_for_administrators_is_403(api: Api, path: str) -> None:
    for role in ("viewer", "operator"):
        assert_problem(api.get(path, role), 403)
    assert api.get(path, "admin").status_code == 200


def test_a_secret_that_was_sent_is_not_echoed(api: Api) -> None:
    body = {"name": "x", "password": ["canary-5ecret"], "role": "canary-5ecret"}
    answer = api.post("/api/v1/users", "admin", json=body)
    assert_problem(answer, 422)
    assert "canary-5ecret" not in answer.text
