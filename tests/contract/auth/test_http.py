"""Tokens, users and clients over HTTP: cases J1 to J5, J36, T1 to T13 and Z5 of the threat list."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from tests.contract.api.harness import (
    Api,
    Recorder,
    build,
    embedded_settings,
    make_callers,
    migrate,
)

TOKEN = "/api/v1/auth/token"
ME = "/api/v1/auth/me"
USERS = "/api/v1/users"
CLIENTS = "/api/v1/clients"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    folder = tmp_path_factory.mktemp("auth-http")
    settings = embedded_settings(folder, TASKYARD_AUTH__LOGIN_ATTEMPTS_PER_MINUTE="20")
    migrate(settings)
    app, services = build(settings, Recorder())
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.portal is not None
        tokens = client.portal.call(make_callers, services)
        yield Api(app, client, settings, Recorder(), tokens)


def grant(api: Api, grant_type: str | None = "password", **form: Any) -> Response:
    headers = form.pop("headers", {})
    fields = {"grant_type": grant_type, **form} if grant_type else form
    return api.client.post(TOKEN, data=fields, headers=headers)


def sign_in(api: Api, name: str = "operator", **form: Any) -> Response:
    return grant(api, username=name, password=f"password of {name}", **form)


def is_problem(answer: Response, status: int, code: str, error: str | None = None) -> Any:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert (document["status"], document["code"]) == (status, code)
    assert document["trace_id"]
    assert document.get("error") == error
    return document


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_t13_a_password_gives_tokens_that_nobody_caches(api: Api) -> None:
    answer = sign_in(api)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "refresh_token", "scope"}
    assert body["token_type"] == "bearer"
    assert body["expires_in"] == 900
    assert answer.headers["cache-control"] == "no-store"
    me = api.client.get(ME, headers=bearer(body["access_token"])).json()
    assert set(me) == {"id", "name", "kind", "role", "scopes", "tenant"}
    assert (me["name"], me["role"], me["kind"]) == ("operator", "operator", "user")
    assert " ".join(me["scopes"]) == body["scope"]


def test_a_wrong_password_and_an_unknown_user_get_the_same_answer(api: Api) -> None:
    answers = [
        grant(api, username="operator", password="wrong"),
        grant(api, username="unheard-of", password="wrong"),
        grant(api, username="ünknown <b>", password="wrong"),
    ]
    documents = [is_problem(one, 401, "INVALID_CREDENTIALS", "invalid_grant") for one in answers]
    for document in documents:
        del document["trace_id"]
    assert documents[0] == documents[1] == documents[2]
    assert all(one.headers["cache-control"] == "no-store" for one in answers)
    assert all(one.headers["www-authenticate"] == "Bearer" for one in answers)


@pytest.mark.parametrize(
    ("form", "code", "error"),
    [
        ({"grant_type": "magic"}, "UNSUPPORTED_GRANT_TYPE", "unsupported_grant_type"),
        ({"grant_type": ""}, "INVALID_TOKEN_REQUEST", "invalid_request"),
        ({"username": "operator"}, "INVALID_TOKEN_REQUEST", "invalid_request"),
        ({"grant_type": "password"}, "INVALID_TOKEN_REQUEST", "invalid_request"),
        (
            {"grant_type": "password", "username": "operator"},
            "INVALID_TOKEN_REQUEST",
            "invalid_request",
        ),
        ({"grant_type": "refresh_token"}, "INVALID_TOKEN_REQUEST", "invalid_request"),
        (
            {"grant_type": "refresh_token", "refresh_token": "tyr_x"},
            "INVALID_GRANT",
            "invalid_grant",
        ),
        (
            {"grant_type": "password", "username": ["operator", "admin"], "password": "x"},
            "INVALID_TOKEN_REQUEST",
            "invalid_request",
        ),
    ],
    ids=[str(at) for at in range(8)],
)
def test_t2_a_request_that_is_no_grant_is_400(
    api: Api, form: dict[str, Any], code: str, error: str
) -> None:
    answer = api.client.post(TOKEN, data=form)
    document = is_problem(answer, 400, code, error)
    assert document["error_description"] == document["detail"]
    assert answer.headers["cache-control"] == "no-store"


def test_t3_a_scope_that_is_not_granted_is_400(api: Api) -> None:
    is_problem(sign_in(api, scope="users:manage"), 400, "INVALID_SCOPE", "invalid_scope")
    assert sign_in(api, scope="tasks:read").json()["scope"] == "tasks:read"


def test_a_narrow_token_of_an_admin_is_no_admin(api: Api) -> None:
    token = sign_in(api, "admin", scope="tasks:read").json()["access_token"]
    is_problem(api.client.get(USERS, headers=bearer(token)), 403, "FORBIDDEN")


def test_t4_a_secret_in_the_url_is_refused(api: Api) -> None:
    answer = api.client.post(f"{TOKEN}?client_secret=x", data={"grant_type": "client_credentials"})
    is_problem(answer, 422, "VALIDATION_FAILED")


def test_t5_a_json_body_is_415(api: Api) -> None:
    body = {"grant_type": "password", "username": "operator", "password": "password of operator"}
    is_problem(api.client.post(TOKEN, json=body), 415, "UNSUPPORTED_MEDIA_TYPE")
    answer = api.client.post(TOKEN, files={"grant_type": (None, "password")})
    is_problem(answer, 415, "UNSUPPORTED_MEDIA_TYPE")


def test_t6_a_refresh_token_works_once(api: Api) -> None:
    first = sign_in(api).json()
    second = grant(api, "refresh_token", refresh_token=first["refresh_token"])
    assert second.status_code == 200
    assert second.json()["refresh_token"] != first["refresh_token"]
    again = grant(api, "refresh_token", refresh_token=first["refresh_token"])
    is_problem(again, 400, "INVALID_GRANT", "invalid_grant")
    ended = grant(api, "refresh_token", refresh_token=second.json()["refresh_token"])
    is_problem(ended, 400, "INVALID_GRANT", "invalid_grant")


def test_j36_an_access_token_is_no_refresh_token(api: Api) -> None:
    answer = grant(api, "refresh_token", refresh_token=api.tokens["operator"])
    is_problem(answer, 400, "INVALID_GRANT", "invalid_grant")


def test_t10_t12_huge_or_impossible_fields_are_4xx(api: Api) -> None:
    assert grant(api, username="operator", password="x" * 10_000_000).status_code == 413
    is_problem(grant(api, username="a", password="x" * 2000), 422, "VALIDATION_FAILED")
    assert grant(api, username="operator\x00", password="x").status_code == 422
    assert api.client.post(TOKEN, content=b"").status_code in {400, 422}
    raw = {"Content-Type": "application/x-www-form-urlencoded"}
    for content in (b"%ff%fe=%00", b"&&&===", b"grant_type=password&username=%ff&password=%ff"):
        assert 400 <= api.client.post(TOKEN, content=content, headers=raw).status_code < 500


def test_t11_wrong_logins_end_in_429(api: Api) -> None:
    for _ in range(20):
        assert grant(api, username="foreigner", password="wrong").status_code == 401
    answer = grant(api, username="foreigner", password="password of foreigner")
    is_problem(answer, 429, "TOO_MANY_LOGINS")
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert answer.headers["ratelimit"].startswith('"login";r=0;t=')
    assert sign_in(api).status_code == 200


@pytest.fixture(scope="module")
def client(api: Api) -> dict[str, str]:
    body = {"name": "ci", "scopes": ["tasks:run", "tasks:read"]}
    answer = api.post(CLIENTS, "admin", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, str] = answer.json()
    assert set(made) == {
        "client_id",
        "client_secret",
        "name",
        "scopes",
        "is_active",
        "tenant",
        "created_at",
    }
    return made


def basic(name: str, secret: str) -> dict[str, str]:
    text = base64.b64encode(f"{name}:{secret}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


def test_a_service_signs_in_by_form_or_basic(api: Api, client: dict[str, str]) -> None:
    name, secret = client["client_id"], client["client_secret"]
    form = grant(api, "client_credentials", client_id=name, client_secret=secret)
    header = grant(api, "client_credentials", scope="tasks:run", headers=basic(name, secret))
    for answer in (form, header):
        assert answer.status_code == 200, answer.text
        assert "refresh_token" not in answer.json()
    assert header.json()["scope"] == "tasks:run"
    me = api.client.get(ME, headers=bearer(form.json()["access_token"])).json()
    assert (me["kind"], me["name"], me["role"]) == ("client", "ci", "service")


def test_t1_a_wrong_client_is_401(api: Api, client: dict[str, str]) -> None:
    name, secret = client["client_id"], client["client_secret"]
    answers = [
        grant(api, "client_credentials", client_id=name, client_secret="wrong"),
        grant(api, "client_credentials", client_id="unknown", client_secret=secret),
        grant(api, "client_credentials", client_id=name),
        grant(api, "client_credentials"),
        grant(api, "client_credentials", headers=basic(name, "wrong")),
        grant(api, "client_credentials", headers={"Authorization": "Basic !!!"}),
        grant(api, "client_credentials", headers={"Authorization": "Basic AAAA"}),
        grant(api, "client_credentials", headers=bearer(api.tokens["admin"])),
    ]
    for answer in answers:
        is_problem(answer, 401, "INVALID_CLIENT", "invalid_client")
        assert answer.headers["www-authenticate"].startswith("Basic")


def test_an_access_token_beside_a_grant_is_passed_over(api: Api) -> None:
    expired = bearer("an.expired.token")
    token = sign_in(api).json()["refresh_token"]
    assert grant(api, "refresh_token", refresh_token=token, headers=expired).status_code == 200


def test_t8_a_client_cannot_use_the_refresh_token_of_a_user(
    api: Api, client: dict[str, str]
) -> None:
    token = sign_in(api).json()["refresh_token"]
    name, secret = client["client_id"], client["client_secret"]
    answer = grant(api, "refresh_token", refresh_token=token, headers=basic(name, secret))
    is_problem(answer, 400, "INVALID_GRANT", "invalid_grant")
    assert grant(api, "refresh_token", refresh_token=token).status_code == 200


def test_a_client_that_says_who_it_is_twice_is_400(api: Api, client: dict[str, str]) -> None:
    name, secret = client["client_id"], client["client_secret"]
    answer = grant(api, "client_credentials", client_secret=secret, headers=basic(name, secret))
    is_problem(answer, 400, "INVALID_TOKEN_REQUEST", "invalid_request")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Authorization", "Bearer")],
        [("Authorization", "Bearer ")],
        [("Authorization", "Basic YWRtaW46YWRtaW4=")],
        [("Authorization", "Bearer {token}"), ("Authorization", "Bearer {token}")],
        [("Authorization", "Bearer {token} extra")],
        [("Authorization", "Token {token}")],
        [("Authorization", "{token}")],
    ],
    ids=[str(at) for at in range(8)],
)
def test_j1_to_j4_only_one_bearer_token_counts(api: Api, headers: list[tuple[str, str]]) -> None:
    filled = [(name, value.format(token=api.tokens["admin"])) for name, value in headers]
    answer = api.client.get(ME, headers=filled)
    # RFC 6750, section 3.1: a request without any credentials gets no error code.
    is_problem(answer, 401, "INVALID_TOKEN" if filled else "UNAUTHORIZED")
    assert ("error=" in answer.headers["www-authenticate"]) == bool(filled)
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_j5_a_token_in_the_query_is_not_read(api: Api) -> None:
    answer = api.client.get(ME, params={"access_token": api.tokens["admin"]})
    is_problem(answer, 401, "UNAUTHORIZED")


def test_j35_a_refresh_token_is_no_access_token(api: Api) -> None:
    token = sign_in(api).json()["refresh_token"]
    is_problem(api.client.get(ME, headers=bearer(token)), 401, "INVALID_TOKEN")


def test_a_revoked_token_is_refused(api: Api) -> None:
    pair = sign_in(api).json()
    headers = bearer(pair["access_token"])
    assert api.client.get(ME, headers=headers).status_code == 200
    unknown = api.client.post("/api/v1/auth/revoke", data={"token": "unknown"}, headers=headers)
    assert unknown.status_code == 200
    revoked = api.client.post(
        "/api/v1/auth/revoke", data={"token": pair["refresh_token"]}, headers=headers
    )
    assert revoked.status_code == 200
    assert revoked.content == b""
    is_problem(api.client.get(ME, headers=headers), 401, "INVALID_TOKEN")
    answer = grant(api, "refresh_token", refresh_token=pair["refresh_token"])
    is_problem(answer, 400, "INVALID_GRANT", "invalid_grant")


def test_an_access_token_can_be_handed_back(api: Api) -> None:
    headers = bearer(sign_in(api).json()["access_token"])
    form = {"token": headers["Authorization"].split()[1], "token_type_hint": "access_token"}
    assert api.client.post("/api/v1/auth/revoke", data=form, headers=headers).status_code == 200
    is_problem(api.client.get(ME, headers=headers), 401, "INVALID_TOKEN")


def test_revoking_needs_a_token(api: Api) -> None:
    is_problem(api.client.post("/api/v1/auth/revoke", data={"token": "x"}), 401, "UNAUTHORIZED")


def test_the_key_set_is_public(api: Api) -> None:
    for path in ("/.well-known/jwks.json", "/api/v1/.well-known/jwks.json"):
        assert api.client.get(path).json() == {"keys": []}


def test_a_user_is_made_listed_changed_and_removed(api: Api) -> None:
    body = {"name": "Grace", "password": "a good password", "role": "viewer"}
    made = api.post(USERS, "admin", json=body)
    assert made.status_code == 201, made.text
    user = made.json()
    path = f"{USERS}/{user['id']}"
    assert made.headers["location"] == path
    assert "password" not in made.text
    assert (user["name"], user["role"], user["is_active"]) == ("grace", "viewer", True)
    assert user["created_at"].endswith("Z")
    assert api.get(path, "admin").json() == user
    headers = bearer(
        grant(api, username="grace", password="a good password").json()["access_token"]
    )
    assert api.client.get(ME, headers=headers).status_code == 200
    changed = api.call("PATCH", path, "admin", json={"role": "operator"}).json()
    assert changed["role"] == "operator"
    off = api.call("PATCH", path, "admin", json={"is_active": False})
    assert off.json()["is_active"] is False
    assert grant(api, username="grace", password="a good password").status_code == 401
    gone = api.call("DELETE", path, "admin")
    assert (gone.status_code, gone.content, "content-type" in gone.headers) == (204, b"", False)
    is_problem(api.get(path, "admin"), 404, "NOT_FOUND")


def test_lists_are_paged(api: Api) -> None:
    names: list[str] = []
    cursor = None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = api.get(USERS, "admin", params=params).json()
        assert set(page) == {"items", "next_cursor"}
        assert len(page["items"]) <= 2
        names += [user["name"] for user in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert set(names) == {"viewer", "operator", "admin", "nobody", "foreigner"}
    assert len(names) == 5
    page = api.get(CLIENTS, "admin", params={"limit": 1}).json()
    assert all("client_secret" not in one for one in page["items"])


def test_q4_q6_limits_and_cursors_are_checked(api: Api) -> None:
    for limit in ("0", "-1", "201", "ten", "9" * 400):
        assert api.get(USERS, "admin", params={"limit": limit}).status_code == 422
    for cursor in ("x", "..", "a" * 100, "\x00"):
        answer = api.get(USERS, "admin", params={"cursor": cursor})
        assert answer.status_code in {400, 422}


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"name": "x"},
        {"name": "x", "password": "short"},
        {"name": "x", "password": "x" * 2000},
        {"name": "a b", "password": "a good password"},
        {"name": "x", "password": "a good password", "role": "emperor"},
        {"name": "x", "password": "a good password", "scopes": ["NOT ONE"]},
        {"name": "x", "password": "a good password", "scopes": ["a:b"] * 101},
        {"name": "x", "password": "a good password", "is_active": False},
        {"name": "x", "password": "a good password", "id": "1"},
        {"name": "x", "password": "a good password", "token_version": 7},
        {"name": 7, "password": "a good password"},
        {"name": "x\u0000", "password": "a good password"},
    ],
    ids=[str(at) for at in range(13)],
)
def test_z5_a_user_that_is_not_valid_is_422(api: Api, body: dict[str, Any]) -> None:
    answer = api.post(USERS, "admin", json=body)
    assert answer.status_code == 422, answer.text
    assert "a good password" not in answer.text
    assert answer.json()["errors"]


def test_a_name_that_is_taken_is_409(api: Api) -> None:
    body = {"name": "ADMIN", "password": "a good password"}
    is_problem(api.post(USERS, "admin", json=body), 409, "NAME_TAKEN")


def test_the_last_admin_stays(api: Api) -> None:
    admin = api.get(ME, "admin").json()["id"]
    for answer in (
        api.call("DELETE", f"{USERS}/{admin}", "admin"),
        api.call("PATCH", f"{USERS}/{admin}", "admin", json={"role": "viewer"}),
        api.call("PATCH", f"{USERS}/{admin}", "admin", json={"is_active": False}),
    ):
        is_problem(answer, 409, "LAST_ADMIN")


@pytest.mark.parametrize("role", ["viewer", "operator", "nobody"])
def test_z4_users_and_clients_are_for_their_managers(api: Api, role: str) -> None:
    own = api.get(ME, role).json()["id"]
    body = {"name": "eve", "password": "a good password", "role": "admin"}
    for answer in (
        api.get(USERS, role),
        api.get(CLIENTS, role),
        api.get(f"{USERS}/{own}", role),
        api.post(USERS, role, json=body),
        api.call("PATCH", f"{USERS}/{own}", role, json={"role": "admin"}),
        api.call("DELETE", f"{USERS}/{own}", role),
        api.post(CLIENTS, role, json={"name": "eve", "scopes": ["admin"]}),
    ):
        is_problem(answer, 403, "FORBIDDEN")
        assert 'scope="users:manage"' in answer.headers["www-authenticate"]


def test_a_manager_grants_no_more_than_it_holds(api: Api) -> None:
    body = {"name": "manager", "password": "a good password", "scopes": ["users:manage"]}
    assert api.post(USERS, "admin", json=body).status_code == 201
    answer = grant(api, username="manager", password="a good password")
    headers = bearer(answer.json()["access_token"])
    admin = api.get(ME, "admin").json()["id"]
    wide = {"name": "eve", "password": "a good password", "role": "admin"}
    for refused in (
        api.client.post(USERS, json=wide, headers=headers),
        api.client.patch(f"{USERS}/{admin}", json={"password": "taken over"}, headers=headers),
        api.client.post(CLIENTS, json={"name": "eve", "scopes": ["admin"]}, headers=headers),
    ):
        is_problem(refused, 403, "GRANT_TOO_WIDE")
    made = api.get(USERS, "admin").json()["items"][0]
    assert made["name"] == "manager"
    assert api.call("DELETE", f"{USERS}/{made['id']}", "admin").status_code == 204


@pytest.mark.parametrize(
    "user_id", ["x", "00000000-0000-0000-0000-000000000000", "%00", "{id}", "..%2f..", "a" * 300]
)
def test_q1_q2_an_id_that_nobody_has_is_404(api: Api, user_id: str) -> None:
    for answer in (
        api.get(f"{USERS}/{user_id}", "admin"),
        api.call("PATCH", f"{USERS}/{user_id}", "admin", json={}),
        api.call("DELETE", f"{USERS}/{user_id}", "admin"),
        api.call("DELETE", f"{CLIENTS}/{user_id}", "admin"),
    ):
        assert answer.status_code == 404, answer.text


def test_a_removed_client_is_refused(api: Api) -> None:
    made = api.post(CLIENTS, "admin", json={"name": "old", "scopes": ["tasks:read"]}).json()
    form = {"client_id": made["client_id"], "client_secret": made["client_secret"]}
    assert grant(api, "client_credentials", **form).status_code == 200
    path = f"{CLIENTS}/{made['client_id']}"
    assert api.call("DELETE", path, "admin").status_code == 204
    is_problem(grant(api, "client_credentials", **form), 401, "INVALID_CLIENT", "invalid_client")
