"""The core's own routes; a plugin's are mounted beside them by `app.api.mounting`."""

from app.api.routes import documents, health, metrics, registry, runs, service

ROOT_ROUTERS = (health.root_router, metrics.root_router, documents.root_router)
ROUTERS = (registry.router, runs.router, health.router, service.router)
