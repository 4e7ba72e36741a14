"""Health: `/health` for people, `/readyz` for a load balancer, `/livez` for a supervisor."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from app.api.door import public
from app.api.health import HealthMonitor, HealthReport

router = APIRouter(tags=["service"])
root_router = APIRouter(tags=["service"])


class Probe(BaseModel):
    """The answer to a probe."""

    status: str


@router.get(
    "/health",
    responses={503: {"model": HealthReport, "description": "A required service does not answer"}},
)
@public
async def get_health(request: Request, response: Response) -> HealthReport:
    """Return whether each service answers, and how fast; 503 when a required one does not."""
    report = await _monitor(request).report()
    response.status_code = 200 if report.is_ready else 503
    return report


@root_router.get(
    "/readyz", responses={503: {"model": Probe, "description": "Not ready for requests"}}
)
@public
async def get_readiness(request: Request, response: Response) -> Probe:
    """Return 200 when requests can be answered, else 503."""
    report = await _monitor(request).report()
    response.status_code = 200 if report.is_ready else 503
    return Probe(status=report.status)


@root_router.get("/livez")
@public
async def get_liveness() -> Probe:
    """Return 200 as long as the process answers at all; no service is asked."""
    return Probe(status="ok")


def _monitor(request: Request) -> HealthMonitor:
    monitor = request.app.state.health
    assert isinstance(monitor, HealthMonitor)  # noqa: S101 - `create_app` has put it there
    return monitor
