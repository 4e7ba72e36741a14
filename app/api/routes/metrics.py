"""Prometheus metrics: open to this machine, with a token from anywhere else."""

import asyncio
import contextlib
import ipaddress
import os

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.responses import Response

from app.api.authentication import authenticate
from app.api.dependencies import CoreServices, requires
from app.api.door import public
from app.common.metrics import DB_POOL_IN_USE

SCOPE = "metrics:read"
_COUNT_SECONDS = 2.0
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")

root_router = APIRouter(include_in_schema=False)


@root_router.get("/metrics")
@public
async def get_metrics(request: Request, services: CoreServices) -> Response:
    """Return the metrics as text.

    A scraper on the same machine needs no token; through a proxy or from
    another machine it needs one with the scope `metrics:read`.
    """
    if not _is_local(request):
        await authenticate(request)
        await requires(SCOPE)(request)
    for bind in services.databases.binds:
        DB_POOL_IN_USE.labels(bind).set(services.databases.pool_in_use(bind))
    # A database or a broker that is away must not cost the scraper the other metrics.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_COUNT_SECONDS):
            await services.queue_levels.refresh()
    return Response(generate_latest(_registry()), media_type=CONTENT_TYPE_LATEST)


def _is_local(request: Request) -> bool:
    if request.client is None or any(name in request.headers for name in _FORWARDED):
        return False
    try:
        return ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _registry() -> CollectorRegistry:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's own gap
    return registry
