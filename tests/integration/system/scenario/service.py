"""What the service tells of itself."""

from typing import Any

import httpx2

from tests.integration.system.recording import seen


def service(client: httpx2.Client, root: str) -> list[Any]:
    """Ask for health, settings, errors and metrics."""
    config = client.get("/config")
    metrics = client.get(f"{root}/metrics")
    return [
        seen(client.get("/health")),
        (config.status_code, "password" in config.text and "correct horse" in config.text),
        seen(client.get("/errors"))[0],
        seen(client.get("/errors/RUN_NOT_FOUND")),
        seen(client.get("/errors/NO_SUCH_ERROR")),
        seen(client.get(f"{root}/livez")),
        seen(client.get(f"{root}/readyz")),
        seen(client.get(f"{root}/docs")),
        client.get(f"{root}/.well-known/jwks.json").status_code,
        (metrics.status_code, "taskyard_http_requests_total" in metrics.text),
    ]
