"""What holds for every route there is, whoever wrote it."""

import re
import uuid
from collections.abc import Iterator

import pytest
from fastapi import params
from httpx2 import Response
from starlette.routing import Match

from app.api.door import DoorRoute
from app.api.openapi import required_scopes
from tests.contract.api.harness import Api

MEMBERS = {"type", "title", "status", "detail", "code", "trace_id"}
UNKNOWN_ID = str(uuid.UUID(int=0))
# What needs no token, by the contract: health, the token endpoint, public keys, the document.
PUBLIC = {
    "/livez",
    "/readyz",
    "/metrics",
    "/docs",
    "/docs/{asset}",
    "/openapi.json",
    "/.well-known/jwks.json",
    "/api/v1/.well-known/jwks.json",
    "/api/v1/auth/token",
    "/api/v1/health",
}
# What every known caller may do.
UNSCOPED = {
    "/api/v1/auth/me",
    "/api/v1/auth/revoke",
    "/api/v1/errors",
    "/api/v1/errors/{code}",
}


def _routes(api: Api) -> Iterator[tuple[str, str, DoorRoute]]:
    for route in api.app.routes:
        assert isinstance(route, DoorRoute), f"{route} does not pass the door"
        path = re.sub(r"\{[^}]+\}", UNKNOWN_ID, route.path)
        for method in sorted(route.methods or ()):
            yield method, path, route


def assert_problem(answer: Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() >= MEMBERS
    assert problem["status"] == status
    assert re.fullmatch("[A-Z][A-Z_]+", problem["code"])
    assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"])
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]


def test_public_routes_are_those_of_the_contract(api: Api) -> None:
    assert {route.path for _, _, route in _routes(api) if not route.needs_token} == PUBLIC


def test_every_core_route_asks_for_a_scope(api: Api) -> None:
    core = {
        route.path
        for _, _, route in _routes(api)
        if route.needs_token and route.endpoint.__module__.startswith("app.api")
    }
    unscoped = {route.path for _, _, route in _routes(api) if not required_scopes(route)}
    assert core & unscoped == UNSCOPED


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer a.b.c"},
        {"Authorization": "Bearer " + "a" * 5000},
    ],
    ids=["none", "scheme only", "empty", "basic", "forged", "long"],
)
def test_without_a_valid_token_it_is_401(
    api: Api, headers: dict[str, str], subtests: pytest.Subtests
) -> None:
    bodies = set()
    for method, path, route in _routes(api):
        if not route.needs_token:
            continue
        with subtests.test(route=f"{method} {path}"):
            # The body is not looked at before the caller is known.
            answer = api.call(method, path, None, headers=headers, content=b"{")
            assert_problem(answer, 401)
            assert answer.headers["www-authenticate"].startswith("Bearer")
            bodies.add(str({**answer.json(), "trace_id": ""}))
    assert len(bodies) == 1


def test_with_a_token_of_no_scope_it_is_403(api: Api, subtests: pytest.Subtests) -> None:
    for method, path, route in _routes(api):
        if not required_scopes(route):
            continue
        with subtests.test(route=f"{method} {path}"):
            body = b"" if isinstance(_body_info(route), params.Form) else b"{}"
            answer = api.call(method, path, "nobody", headers=_typed(route), content=body)
            assert_problem(answer, 403)
            assert required_scopes(route)[0] in answer.json()["detail"]


def test_an_unknown_method_is_405_with_allow(api: Api, subtests: pytest.Subtests) -> None:
    for _, path, route in _routes(api):
        with subtests.test(path=path):
            answer = api.call("BREW", path)
            assert_problem(answer, 405)
            allowed = {method.strip() for method in answer.headers["allow"].split(",")}
            assert allowed >= (route.methods or set())
            for method in allowed - {"HEAD"}:
                scope = {"type": "http", "method": method, "path": path, "app": api.app}
                matches = [other.matches(scope)[0] for other in api.app.routes]
                assert Match.FULL in matches


def test_an_unknown_path_below_a_route_is_404(api: Api, subtests: pytest.Subtests) -> None:
    for method, path, _ in _routes(api):
        with subtests.test(path=path):
            assert_problem(api.call(method, f"{path}/no/such/thing"), 404)
            assert_problem(api.call(method, f"{path}/"), 404)


def test_another_content_type_is_415(api: Api, subtests: pytest.Subtests) -> None:
    for method, path, route in _routes(api):
        if route.body_field is None:
            continue
        for content_type in ("text/plain", "application/xml", "application/json; charset=utf-16"):
            with subtests.test(route=f"{method} {path}", content_type=content_type):
                headers = {"Content-Type": content_type}
                answer = api.call(method, path, "admin", headers=headers, content=b"{}")
                assert_problem(answer, 415)


def test_an_unknown_query_parameter_is_422(api: Api, subtests: pytest.Subtests) -> None:
    for method, path, route in _routes(api):
        with subtests.test(route=f"{method} {path}"):
            answer = api.call(method, f"{path}?no_such=1", _role_for(route))
            assert_problem(answer, 422)
            assert answer.json()["errors"][0]["loc"] == ["query", "no_such"]


def test_a_body_that_is_too_large_is_413(api: Api, subtests: pytest.Subtests) -> None:
    size = str(api.settings.limits.max_upload_mb * 2**20 * 2)
    for method, path, route in _routes(api):
        with subtests.test(route=f"{method} {path}"):
            headers = {**_typed(route), "Content-Length": size}
            answer = api.call(method, path, _role_for(route), headers=headers)
            assert_problem(answer, 413)
            assert answer.headers["connection"] == "close"


def test_get_answers_head_with_the_same_headers(api: Api, subtests: pytest.Subtests) -> None:
    for method, path, route in _routes(api):
        if method == "GET":
            with subtests.test(path=path):
                got = api.get(path, _role_for(route))
                head = api.call("HEAD", path, _role_for(route))
                assert head.status_code == got.status_code
                assert head.headers["content-type"] == got.headers["content-type"]
                assert head.content == b""


def _role_for(route: DoorRoute) -> str | None:
    return "admin" if route.needs_token else None


def _body_info(route: DoorRoute) -> object:
    return route.body_field.field_info if route.body_field else None


def _typed(route: DoorRoute) -> dict[str, str]:
    if isinstance(_body_info(route), params.File):
        return {"Content-Type": "multipart/form-data; boundary=x"}
    if isinstance(_body_info(route), params.Form):
        return {"Content-Type": "application/x-www-form-urlencoded"}
    return {"Content-Type": "application/json"}
