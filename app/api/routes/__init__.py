"""The core's own routes; a plugin's are mounted beside them by `app.api.mounting`."""

from app.api.routes import (
    auth,
    batches,
    dead_letters,
    documents,
    health,
    metrics,
    queues,
    registry,
    reruns,
    runs,
    schedules,
    service,
    users,
    workers,
)

ROOT_ROUTERS = (
    health.root_router,
    metrics.root_router,
    documents.root_router,
    auth.root_router,
)
ROUTERS = (
    auth.router,
    users.router,
    registry.router,
    runs.router,
    reruns.router,
    batches.router,
    dead_letters.router,
    queues.router,
    queues.explain_router,
    workers.router,
    schedules.router,
    health.router,
    service.router,
)
