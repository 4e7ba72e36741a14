import re
from typing import Any

import pytest
from fastapi import Request
from structlog.testing import capture_logs

from app.api.routes import metrics
from app.common.errors import all_errors
from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import assert_problem


class TestHealth:
    def test_every_service_is_told_without_a_token(self, api: Api) -> None:
        answer = api.get("/api/v1/health", role=None)
        assert answer.status_code == 200
        body = answer.json()
        assert body["status"] == "ok"
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", body["version"])
        assert set(body["checks"]) == {
            "postgres_main",
            "mysql_lint",
            "redis",
            "broker",
            "storage",
            "migrations",
        }
        for check in body["checks"].values():
            assert set(check) == {"status", "latency_ms"}

    def test_the_probes_answer_at_the_root(self, api: Api) -> None:
        assert api.get("/livez", role=None).json() == {"status": "ok"}
        assert api.get("/readyz", role=None).json() == {"status": "ok"}


class TestConfig:
    def test_settings_are_shown_without_secrets(self, api: Api) -> None:
        answer = api.get("/api/v1/config", "admin")
        assert answer.json()["databases"]["postgres_main"]["url"].startswith("sqlite")
        assert answer.json()["limits"]["max_params_bytes"] == 262144
        for token in api.tokens.values():
            assert token not in answer.text


class TestErrors:
    def test_every_code_has_a_meaning(self, api: Api) -> None:
        items = api.get("/api/v1/errors", "viewer").json()["items"]
        assert {item["code"] for item in items} == {error.code for error in all_errors()}
        for item in items:
            assert item["meaning"], item["code"]
            assert re.fullmatch("[A-Z][A-Z0-9_]+", item["code"])

    def test_the_type_of_a_problem_leads_to_its_meaning(self, api: Api) -> None:
        problem = api.get("/api/v1/tasks/nope").json()
        meaning = api.get(problem["type"]).json()
        assert (meaning["code"], meaning["status"]) == (problem["code"], 404)
        assert_problem(api.get("/api/v1/errors/NO_SUCH_CODE"), 404)

    def test_a_mistake_of_ours_is_500_and_says_nothing(self, api: Api) -> None:
        answer = api.get("/api/v1/sample/broken")
        assert_problem(answer, 500)
        assert answer.json()["code"] == "INTERNAL_ERROR"
        assert "canary" not in answer.text
        assert "KeyError" not in answer.text

    def test_a_service_that_is_away_is_503(self, api: Api) -> None:
        answer = api.get("/api/v1/sample/away")
        assert_problem(answer, 503)
        assert int(answer.headers["retry-after"]) > 0


class TestMetrics:
    def test_requests_are_counted_by_their_full_template(self, api: Api) -> None:
        api.get("/api/v1/sample/inner/7/deep")
        api.get("/api/v1/nope/7")
        text = api.get("/metrics", "admin").text
        assert 'route="/api/v1/sample/inner/{item}/deep",status="200"' in text
        assert 'route="unmatched",status="404"' in text
        assert "/nope" not in text
        assert 'taskyard_db_pool_in_use{bind="postgres_main"}' in text
        assert "taskyard_http_request_duration_seconds_bucket" in text

    def test_from_elsewhere_it_needs_a_token(self, api: Api) -> None:
        assert_problem(api.get("/metrics", role=None), 401)
        assert_problem(api.get("/metrics", "operator"), 403)

    @pytest.mark.parametrize(
        ("client", "headers", "local"),
        [
            (("127.0.0.1", 1), [], True),
            (("::1", 1), [], True),
            (("10.0.0.1", 1), [], False),
            (("127.0.0.1", 1), [(b"x-forwarded-for", b"10.0.0.1")], False),
            (("127.0.0.1", 1), [(b"forwarded", b"for=10.0.0.1")], False),
            (("unix", 0), [], False),
            (None, [], False),
        ],
    )
    def test_only_this_machine_is_local(self, client: Any, headers: Any, local: bool) -> None:
        request = Request({"type": "http", "client": client, "headers": headers})
        assert metrics._is_local(request) is local  # noqa: SLF001 - the rule itself is tested


class TestLogs:
    def test_a_request_is_one_line_with_its_user_and_route(self, api: Api) -> None:
        with capture_logs() as lines:
            api.get("/api/v1/tasks/nope?limit=1")
        (line,) = [line for line in lines if line["event"] == "http.request"]
        assert (line["route"], line["status"]) == ("/api/v1/tasks/{task_id}", 422)
        assert line["user"] == "operator"
        assert "limit" not in str(line)

    def test_a_refused_token_is_logged_with_its_reason(self, api: Api) -> None:
        with capture_logs() as lines:
            api.get("/api/v1/tasks", role=None, headers={"Authorization": "Bearer a.b.c"})
        (line,) = [line for line in lines if line["event"] == "auth.refused"]
        assert line["reason"]
