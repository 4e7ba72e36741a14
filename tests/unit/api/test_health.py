import asyncio

import pytest

from app.api import health
from app.api.health import Check, HealthMonitor


async def _well() -> None: ...


async def _broken() -> None:
    raise ConnectionRefusedError("postgresql://user:s3cret@host")


def _monitor(**checks: Check) -> HealthMonitor:
    return HealthMonitor(checks, "1.2.3")


async def test_all_well_is_ok() -> None:
    report = await _monitor(postgres_main=_well, redis=_well).report()
    assert (report.status, report.is_ready, report.version) == ("ok", True, "1.2.3")
    assert {name: check.status for name, check in report.checks.items()} == {
        "postgres_main": "ok",
        "redis": "ok",
    }


async def test_without_an_optional_service_it_is_degraded_and_ready() -> None:
    report = await _monitor(postgres_main=_well, redis=_broken).report()
    assert (report.status, report.is_ready) == ("degraded", True)
    assert report.checks["redis"].status == "failed"


async def test_without_a_required_service_it_is_not_ready() -> None:
    report = await _monitor(postgres_main=_broken, redis=_well).report()
    assert (report.status, report.is_ready) == ("failed", False)


async def test_a_report_tells_no_address() -> None:
    report = await _monitor(postgres_main=_broken).report()
    assert "s3cret" not in report.model_dump_json()


async def test_a_silent_service_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "CHECK_SECONDS", 0.01)

    async def silent() -> None:
        await asyncio.Event().wait()

    assert (await _monitor(broker=silent).report()).checks["broker"].status == "failed"


async def test_callers_at_the_same_moment_share_one_round() -> None:
    rounds = []

    async def counted() -> None:
        rounds.append(1)
        await asyncio.sleep(0)

    monitor = _monitor(redis=counted)
    await asyncio.gather(*(monitor.report() for _ in range(20)))
    assert len(rounds) == 1
