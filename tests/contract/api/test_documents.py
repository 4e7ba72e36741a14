import re
from typing import Any

import jsonschema
import pytest

from app.api.door import DoorRoute
from tests.contract.api.harness import Api

EXTERNAL = re.compile(r"(src|href|action)\s*=\s*[\"']?\s*(https?:)?//", re.IGNORECASE)


@pytest.fixture(scope="module")
def document(api: Api) -> dict[str, Any]:
    answer = api.get("/openapi.json", role=None)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


def _operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{method} {path}", operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_operation_ids_are_route_names_and_unique(document: dict[str, Any], api: Api) -> None:
    ids = [operation["operationId"] for _, operation in _operations(document)]
    assert len(ids) == len(set(ids))
    assert "run_task" in ids
    shown = [r for r in api.app.routes if isinstance(r, DoorRoute) and r.include_in_schema]
    assert sorted(ids) == sorted(route.name for route in shown)


def test_every_error_is_a_problem_document(document: dict[str, Any]) -> None:
    for name, operation in _operations(document):
        responses = operation["responses"]
        assert "default" in responses, name
        for status, response in responses.items():
            if status == "default" or (status >= "400" and status != "503"):
                assert list(response["content"]) == ["application/problem+json"], (name, status)
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_security_and_scopes_are_told(document: dict[str, Any]) -> None:
    paths = document["paths"]
    run = paths["/api/v1/tasks/run"]["post"]
    assert run["security"] == [{"bearer": []}, {"password": []}]
    assert run["x-required-scopes"] == ["tasks:run"]
    assert {"400", "401", "403", "413", "415", "422"} <= run["responses"].keys()
    assert "security" not in paths["/api/v1/health"]["get"]
    assert set(document["components"]["securitySchemes"]) == {"bearer", "password"}


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    for name in re.findall(r'"#/components/schemas/([^"]+)"', str(document).replace("'", '"')):
        assert name in schemas


def test_answers_are_as_the_document_says(document: dict[str, Any], api: Api) -> None:
    def check(path: str, template: str, status: str = "200") -> None:
        response = document["paths"][template]["get"]["responses"][status]
        (content,) = response["content"].values()
        schema = {**content["schema"], "components": document["components"]}
        jsonschema.validate(api.get(path, "admin").json(), schema)

    run_id = api.run("sample.add_numbers", {"a": 1})
    api.work(run_id)
    check(f"/api/v1/tasks/{run_id}", "/api/v1/tasks/{task_id}")
    check(f"/api/v1/tasks/{run_id}/events", "/api/v1/tasks/{task_id}/events")
    check(f"/api/v1/tasks/{run_id}/logs", "/api/v1/tasks/{task_id}/logs")
    check("/api/v1/tasks?limit=3", "/api/v1/tasks")
    check("/api/v1/tasks/registered", "/api/v1/tasks/registered")
    check("/api/v1/health", "/api/v1/health")
    check("/api/v1/errors", "/api/v1/errors")
    check("/api/v1/tasks/nope", "/api/v1/tasks/{task_id}", "404")


def test_the_older_paths_are_not_in_the_document(document: dict[str, Any]) -> None:
    assert "/older/{task_id}/result" not in document["paths"]


class TestPage:
    def test_it_asks_no_other_host(self, api: Api) -> None:
        page = api.get("/docs", role=None)
        assert page.headers["content-type"].startswith("text/html")
        assert not EXTERNAL.search(page.text)
        css = api.get("/docs/swagger-ui.css", role=None).text
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", css)
        assert "@import" not in css

    def test_its_policy_allows_only_itself(self, api: Api) -> None:
        page = api.get("/docs", role=None)
        policy = page.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
        assert "http" not in policy
        # No script stands inside the page, so that the policy needs no exception.
        assert re.findall(r"<script(?![^>]*\bsrc=)", page.text) == []
        assert not re.search(r"\son\w+=", page.text)

    def test_its_files_are_served_with_their_types(self, api: Api) -> None:
        for path in re.findall(r"(?:src|href)=\"([^\"]+)\"", api.get("/docs", role=None).text):
            answer = api.get(f"/{path}", role=None)
            assert answer.status_code == 200
            assert answer.headers["x-content-type-options"] == "nosniff"
            expected = {"js": "text/javascript", "css": "text/css", "png": "image/png"}
            assert answer.headers["content-type"].startswith(expected[path.rsplit(".", 1)[1]])

    def test_the_validator_on_the_internet_is_off(self, api: Api) -> None:
        assert "validatorUrl: null" in api.get("/docs/taskyard-docs.js", role=None).text
