"""Whether the services behind the API answer, asked at most once a second."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal

from pydantic import BaseModel, Field

from app.common.logging import get_logger
from app.config.settings import APPLICATION_BIND

Check = Callable[[], Awaitable[None]]
CHECK_SECONDS = 2.0
_KEPT_SECONDS = 1.0
# Without these no request can be answered. A run is accepted while the broker is away, the
# cache is never needed, and the other databases and the storage belong to single plugins.
REQUIRED = frozenset({APPLICATION_BIND, "migrations"})

log = get_logger(__name__)


class CheckReport(BaseModel):
    """One service."""

    status: Literal["ok", "failed"]
    latency_ms: float


class HealthReport(BaseModel):
    """All services; `degraded` when one fails that not every request needs."""

    status: Literal["ok", "degraded", "failed"]
    version: str
    checks: dict[str, CheckReport] = Field(description="By service; databases by their bind.")

    @property
    def is_ready(self) -> bool:
        """Whether requests can be answered."""
        return self.status != "failed"


class HealthMonitor:
    """Runs the checks side by side; callers at the same moment share one round."""

    def __init__(self, checks: Mapping[str, Check], version: str) -> None:
        self._checks = dict(checks)
        self._version = version
        self._lock = asyncio.Lock()
        self._last: HealthReport | None = None
        self._kept_until = 0.0

    async def report(self) -> HealthReport:
        """Return how every service fares, at most one second old."""
        async with self._lock:
            if self._last is None or time.monotonic() >= self._kept_until:
                self._last = await self._ask()
                self._kept_until = time.monotonic() + _KEPT_SECONDS
            return self._last

    async def _ask(self) -> HealthReport:
        reports = await asyncio.gather(*(_run(name, check) for name, check in self._checks.items()))
        checks = dict(zip(self._checks, reports, strict=True))
        failed = {name for name, report in checks.items() if report.status == "failed"}
        status: Literal["ok", "degraded", "failed"] = "ok"
        if failed:
            status = "failed" if failed & REQUIRED else "degraded"
        return HealthReport(status=status, version=self._version, checks=checks)


async def _run(name: str, check: Check) -> CheckReport:
    started = time.perf_counter()
    status: Literal["ok", "failed"] = "ok"
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            await check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the service does not answer
        status = "failed"
        log.warning(
            "health.check_failed", check=name, error=type(error).__name__, reason=str(error)[:300]
        )
    return CheckReport(status=status, latency_ms=round((time.perf_counter() - started) * 1000, 1))
