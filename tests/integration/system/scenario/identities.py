"""Tokens, users and service clients."""

from typing import Any

import httpx2

from tests.integration.system.recording import seen

PASSWORD = "another long password"


def tokens(client: httpx2.Client, nobody: httpx2.Client) -> list[Any]:
    """Take, refresh, misuse and revoke tokens."""
    made = client.post("/users", json={"name": "grace", "password": PASSWORD})
    form = {"grant_type": "password", "username": "grace", "password": PASSWORD}
    first = nobody.post("/auth/token", data=form)
    refresh = {"grant_type": "refresh_token", "refresh_token": first.json()["refresh_token"]}
    second = nobody.post("/auth/token", data=refresh)
    token = second.json()["refresh_token"]
    bearer = {"Authorization": f"Bearer {second.json()['access_token']}"}
    return [
        seen(made),
        seen(first),
        seen(second),
        seen(nobody.get("/auth/me", headers=bearer)),
        seen(nobody.post("/auth/token", data={**form, "password": "wrong password"})),
        seen(nobody.post("/auth/token", data={"grant_type": "magic"})),
        seen(nobody.post("/auth/revoke", data={"token": token}, headers=bearer)),
        seen(nobody.post("/auth/token", data={**refresh, "refresh_token": token})),
        seen(nobody.get("/auth/me")),
        seen(nobody.get("/.well-known/jwks.json")),
    ]


def users(client: httpx2.Client) -> list[Any]:
    """Make, read, change and remove a user."""
    body = {"name": "ada", "password": PASSWORD, "role": "viewer", "tenant": "red"}
    made = client.post("/users", json=body)
    path = f"/users/{made.json()['id']}"
    return [
        seen(made),
        seen(client.post("/users", json=body)),
        seen(client.post("/users", json={**body, "name": "eve", "role": "emperor"})),
        seen(client.get(path)),
        seen(client.patch(path, json={"role": "operator"})),
        seen(client.get("/users", params={"limit": 1})),
        seen(client.delete(path)),
        seen(client.get(path)),
    ]


def clients(client: httpx2.Client, nobody: httpx2.Client) -> list[Any]:
    """Make a service client and let it work with its own credentials."""
    made = client.post("/clients", json={"name": "ci", "scopes": ["tasks:read"]})
    secret = made.json()
    form = {
        "grant_type": "client_credentials",
        "client_id": secret["client_id"],
        "client_secret": secret["client_secret"],
    }
    token = nobody.post("/auth/token", data=form)
    own = {"Authorization": f"Bearer {token.json()['access_token']}"}
    none = {"limit": "1", "task": "no.such_task"}
    wanted = {"task": "text.count_words", "params": {}}
    return [
        seen(made)[0],
        seen(token),
        seen(nobody.get("/tasks", params=none, headers=own)),
        seen(nobody.post("/tasks/run", json=wanted, headers=own)),
        seen(client.get("/clients")),
        seen(client.delete(f"/clients/{secret['client_id']}")),
        seen(nobody.post("/auth/token", data=form)),
    ]
