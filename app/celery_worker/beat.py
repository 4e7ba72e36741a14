"""Celery beat with our housekeeping: any number may run, and nothing is kept in a file."""

import time
from typing import Any

from celery.beat import Scheduler

from app.celery_worker.housekeeping import Housekeeper
from app.celery_worker.site import site_of


class DatabaseScheduler(Scheduler):
    """Keeps house every `sweep_interval_seconds`; sends a plain `beat_schedule` as well."""

    def __init__(self, app: Any, *args: Any, **kwargs: Any) -> None:
        site = site_of(app)
        self._housekeeper = Housekeeper(site)
        self._next_round = 0.0
        super().__init__(app, *args, **kwargs)

    def setup_schedule(self) -> None:
        """Take the plain schedule only, without the clean-up of a result back end."""
        self.merge_inplace(self.app.conf.beat_schedule)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Do what is due; return the seconds until the next tick."""
        plain = super().tick(*args, **kwargs)
        if time.monotonic() >= self._next_round:
            pause = self._housekeeper.run()
            self._next_round = time.monotonic() + pause
        left = max(0.0, self._next_round - time.monotonic())
        return float(min(left, plain))

    def close(self) -> None:
        self._housekeeper.close()
        super().close()
