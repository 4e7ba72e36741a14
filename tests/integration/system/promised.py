"""The routes that clients were promised, written out: one that goes missing breaks somebody.

Paths are below `/api/v1` unless they stand in AT_THE_ROOT. What came later is in the OpenAPI
document alone.
"""

PROMISED = [
    "POST /auth/token",
    "POST /auth/revoke",
    "GET /auth/me",
    "GET /.well-known/jwks.json",
    "POST /users",
    "GET /users",
    "GET /users/{id}",
    "PATCH /users/{id}",
    "DELETE /users/{id}",
    "POST /clients",
    "GET /tasks/registered",
    "GET /tasks/registered/{name}",
    "DELETE /tasks/registered/{name}",
    "POST /tasks/register",
    "POST /tasks/run",
    "POST /tasks/run/batch",
    "GET /batches/{batch_id}",
    "GET /tasks",
    "GET /tasks/{task_id}",
    "GET /tasks/{task_id}/result",
    "POST /tasks/{task_id}/cancel",
    "POST /tasks/{task_id}/rerun",
    "GET /tasks/{task_id}/events",
    "GET /tasks/{task_id}/logs",
    "GET /tasks/{task_id}/stream",
    "GET /tasks/{task_id}/explain",
    "GET /dead-letters",
    "GET /dead-letters/groups",
    "GET /dead-letters/{id}",
    "POST /dead-letters/{id}/replay",
    "POST /dead-letters/replay",
    "DELETE /dead-letters/{id}",
    "POST /dead-letters/discard",
    "GET /queues",
    "POST /queues/{name}/pause",
    "POST /queues/{name}/resume",
    "POST /schedules",
    "GET /schedules",
    "GET /schedules/{id}",
    "PATCH /schedules/{id}",
    "DELETE /schedules/{id}",
    "POST /schedules/{id}/run",
    "GET /schedules/{id}/preview",
    "GET /health",
    "GET /config",
    "GET /errors",
    "POST /jobs",
    "GET /jobs",
    "POST /jobs/upload",
    "GET /jobs/{job_id}",
    "GET /jobs/{job_id}/report",
    "POST /jobs/{job_id}/cancel",
]
AT_THE_ROOT = [
    "GET /livez",
    "GET /readyz",
    "GET /metrics",
    "GET /openapi.json",
    "GET /docs",
    "GET /.well-known/jwks.json",
    "POST /jobs",
    "GET /jobs",
    "POST /jobs/upload",
    "GET /jobs/{job_id}",
    "GET /jobs/{job_id}/report",
    "POST /jobs/{job_id}/cancel",
    "GET /tasks/{task_id}/result",
]


def promised_operations() -> list[str]:
    """Return every promised operation with its whole path."""
    pairs = (operation.split(" ", 1) for operation in PROMISED)
    return [*(f"{method} /api/v1{path}" for method, path in pairs), *AT_THE_ROOT]
