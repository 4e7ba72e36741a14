"""The metric of how full the queues are, on both application databases."""

from collections.abc import Callable

from prometheus_client import REGISTRY

from app import register_task
from tests.harness import Installation

Install = Callable[..., Installation]


@register_task("test.level", max_attempts=1)
async def level(fails: bool = False) -> None:
    """Succeed or fail."""
    if fails:
        raise ValueError


def gauge(kind: str, queue: str = "default") -> float | None:
    return REGISTRY.get_sample_value("taskyard_queue_messages", {"queue": queue, "kind": kind})


def test_the_gauges_tell_what_waits_where(install: Install) -> None:
    yard = install(level)
    yard.submit("test.level", options={"delay_seconds": 60})
    yard.deliver(yard.submit("test.level", {"fails": True}).task_id)
    yard.transport.backlogs["default"] = 3

    yard.run(yard.services.queue_levels.refresh())

    kinds = ("ready", "delayed", "running", "dead")
    assert [gauge(kind) for kind in kinds] == [3, 1, 0, 1]
    assert gauge("delayed", "slow") == 0


def test_counting_is_not_repeated_for_every_scrape(install: Install) -> None:
    yard = install(level)
    yard.transport.backlogs["default"] = 1
    yard.run(yard.services.queue_levels.refresh())
    yard.transport.backlogs["default"] = 2
    yard.run(yard.services.queue_levels.refresh())
    assert gauge("ready") == 1
