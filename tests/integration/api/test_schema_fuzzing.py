"""Requests generated from the API's own document, sent as two users of two tenants."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.integration.system.installation import PASSWORD, System, dev_system

SCHEMATHESIS = str(Path(sys.executable).with_name("schemathesis"))
CONFIG = Path(__file__).with_name("schemathesis.toml")
# Each is at home in a tenant of its own; `root` is asked where both are refused.
USERS = {"ada": "red", "bob": "blue"}
EXAMPLES = 10

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with dev_system(tmp_path) as running:
        yield running


def make_users(system: System) -> dict[str, str]:
    """Make the users; return the access token of each, the administrator's last."""
    tokens = {}
    with closing(system.client()) as root:
        for name, tenant in USERS.items():
            user = {"name": name, "password": PASSWORD, "role": "operator", "tenant": tenant}
            assert root.post("/users", json=user).status_code == 201
            form = {"grant_type": "password", "username": name, "password": PASSWORD}
            answer = httpx2.post(f"{system.url}/api/v1/auth/token", data=form, trust_env=False)
            tokens[name] = answer.json()["access_token"]
        tokens["root"] = root.headers["Authorization"].removeprefix("Bearer ")
    return tokens


def test_generated_requests_meet_what_the_document_promises(system: System, tmp_path: Path) -> None:
    users = tmp_path / "users.json"
    tokens = make_users(system)
    entries = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for name, token in tokens.items()
    ]
    users.write_text(json.dumps({"auth": entries}))
    command = [SCHEMATHESIS, "--config-file", str(CONFIG), "run", f"{system.url}/openapi.json"]
    command += ["--checks", "all", "--max-examples", str(EXAMPLES), "--continue-on-failure"]
    done = subprocess.run(
        command,
        env={**os.environ, "TASKYARD_FUZZ_USERS": str(users)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=840,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2_000:]
