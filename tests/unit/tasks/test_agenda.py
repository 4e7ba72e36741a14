from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.tasks.agenda import LEASE_SECONDS, Agenda

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def in_seconds(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("found", "seconds"),
    [
        ({}, 3.0),
        ({"fires_at": in_seconds(3600)}, 3.0),
        # A schedule on time, also one that is due sooner than the interval.
        ({"fires_at": in_seconds(2.25)}, 2.25),
        ({"fires_at": in_seconds(0.5)}, 0.5),
        ({"fires_at": in_seconds(-1)}, 0.2),
        ({"lost_at": in_seconds(2.5), "expires_at": in_seconds(2.25)}, 2.25),
        ({"lost_at": in_seconds(-60)}, 1.0),
        ({"expires_at": in_seconds(0.5)}, 1.0),
        ({"has_unpublished": True}, 1.0),
        ({"has_overdue": True}, 1.0),
        ({"has_held": True}, 1.0),
        # Who does not lead fires, waits for the end of the other's lease, and sweeps nothing.
        ({"term": None, "has_unpublished": True, "lost_at": in_seconds(-60)}, 3.0),
        ({"term": None, "leads_until": in_seconds(1.5)}, 1.5),
        ({"term": None, "fires_at": in_seconds(0.5)}, 0.5),
    ],
)
def test_the_next_look_is_when_something_is_due(found: dict[str, Any], seconds: float) -> None:
    agenda = Agenda(now=NOW, **{"term": 1, **found})
    assert agenda.seconds_until_next(1.0) == pytest.approx(seconds)


@pytest.mark.parametrize("interval", [0.05, 1.0, 3.0, 4.0])
def test_an_idle_leader_looks_before_its_lease_runs_out(interval: float) -> None:
    wait = Agenda(now=NOW, term=1).seconds_until_next(interval)
    assert interval <= wait <= LEASE_SECONDS / 2
