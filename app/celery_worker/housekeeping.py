"""One round of housekeeping: a look at what there is to do, schedules that are due, the sweep of
the rows, then the archive of the dead-letter queues.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

from kombu import Connection

from app.auth.refresh import RefreshTokens
from app.celery_worker.confirms import BROKER_TROUBLE
from app.celery_worker.connections import declare, open_connection
from app.celery_worker.dead_letters import facts_of
from app.celery_worker.interrupts import handle_with_care
from app.celery_worker.publisher import BlockingPublisher
from app.celery_worker.site import Firing, Site, Sweeping
from app.common import failpoints
from app.common.logging import get_logger
from app.tasks.loops import run_on
from app.tasks.services import Services
from app.tasks.sweeper import Sweeper

_log = get_logger(__name__)

# So many dead letters of one class are archived before the next sweep is due again.
_MOST_PER_ROUND: Final = 100


def sweeping_on(services: Services) -> Sweeping:
    """Return the sweeper of the product; it also forgets expired logins."""
    logins = RefreshTokens(services.databases, services.settings.auth.refresh_token_seconds)
    return Sweeper(services, expired=[logins.delete_expired])


class Housekeeper:
    """Fires, sweeps and archives on the calling thread, on its own event loop; opened on first
    use.
    """

    def __init__(self, site: Site, clock: Callable[[], float] = time.monotonic) -> None:
        self._site = site
        self._clock = clock
        self._interval = site.settings.celery.sweep_interval_seconds
        self._look_at = clock()
        self._runner = asyncio.Runner()
        self._services: Services | None = None
        self._sweeping: Sweeping | None = None
        self._firing: Firing | None = None
        self._connection: Connection | None = None
        self._channel: Any = None
        # Letters that could not be archived yet, by class. They stay unacknowledged: a return
        # counts as a delivery, and a dead letter must not reach any limit.
        self._held: dict[str, Any] = {}
        self._running = False
        self._failing = False
        self._misfiring = False

    def run(self) -> float:
        """Do one round; what fails is logged and tried again in the next. Return the seconds until
        the next round.

        The rows are looked at only when it is time: an idle beat is to ask little.
        """
        handle_with_care()
        self._running = True
        try:
            if self._clock() >= self._look_at:
                self._sweep()
            self._archive()
        except BROKER_TROUBLE as error:
            _log.warning("housekeeping.delayed", error=repr(error))
            self._disconnect()
        except Exception as error:  # noqa: BLE001 - a database that is away comes back
            # The traceback once, not every second of an outage.
            _log.warning("housekeeping.failed", error=repr(error), exc_info=not self._failing)
            self._failing = True
        else:
            self._failing = False
        finally:
            self._running = False
        # The dead-letter queues are looked at in every interval.
        return min(self._interval, max(0.0, self._look_at - self._clock()))

    def close(self) -> None:
        """Let go of everything; nothing happens in the middle of a round (a signal's handler)."""
        if self._running:
            return
        self._disconnect()
        services, self._services, self._sweeping = self._services, None, None
        self._firing = None
        if services is not None:
            run_on(self._runner, services.close())
        self._runner.close()
        self._runner = asyncio.Runner()

    def _sweep(self) -> None:
        now = self._clock()
        self._look_at = now + self._interval
        self._bring_schedules()
        agenda = run_on(self._runner, self._open().look())
        if agenda.is_due(agenda.fires_at):
            self._fire()
        run_on(self._runner, self._open().sweep(agenda))
        if not self._misfiring:
            self._look_at = now + agenda.seconds_until_next(self._interval)

    def _bring_schedules(self) -> None:
        """Make ready to fire; whatever is wrong with schedules does not hold up the sweep."""
        if self._firing is None:
            firing = self._site.firing_factory(self._open_once())
            if self._try_firing(firing.begin()):
                self._firing = firing

    def _fire(self) -> None:
        if self._firing is not None:
            self._try_firing(self._firing.fire_due())

    def _try_firing(self, step: Coroutine[Any, Any, object]) -> bool:
        try:
            run_on(self._runner, step)
        except Exception as error:  # noqa: BLE001 - the next round tries again
            _log.warning("firing.failed", error=repr(error), exc_info=not self._misfiring)
            self._misfiring = True
        else:
            self._misfiring = False
        return not self._misfiring

    def _open(self) -> Sweeping:
        if self._sweeping is None:
            self._sweeping = self._site.sweeping_factory(self._open_once())
        return self._sweeping

    def _open_once(self) -> Services:
        if self._services is None:
            self._services = run_on(self._runner, self._open_services())
        return self._services

    async def _open_services(self) -> Services:
        return self._site.services_factory(BlockingPublisher(self._site.settings.celery))

    def _archive(self) -> None:
        channel = self._connect()
        for queue_class in self._site.queue_classes:
            queue = self._site.topology.dead_letter_queue_name(queue_class)
            for _ in range(_MOST_PER_ROUND):
                letter = self._held.pop(queue_class, None) or _get(channel, queue)
                if letter is None or not self._keep(letter, queue_class):
                    break

    def _keep(self, letter: Any, queue_class: str) -> bool:
        """Archive one letter and acknowledge it; False when it has to wait for the next round."""
        try:
            run_on(self._runner, self._open().archive_dead_letter(facts_of(letter, queue_class)))
        except Exception:  # noqa: BLE001 - logged below; whatever it is, the letter stays
            self._held[queue_class] = letter
            _log.exception("dead_letter.not_archived", queue=queue_class)
            return False
        failpoints.hit("archive.after_commit")
        # Only now: what the database has not committed stays in its queue.
        letter.ack()
        return True

    def _connect(self) -> Any:
        if self._channel is None:
            celery = self._site.settings.celery
            self._connection = open_connection(
                celery.broker_url.get_secret_value(), timeout_seconds=celery.publish_timeout_seconds
            )
            declare(self._connection, self._site.topology, self._site.queue_classes)
            self._channel = self._connection.channel()
        return self._channel

    def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        self._held.clear()
        if connection is not None:
            connection.collect(socket_timeout=0.1)


def _get(channel: Any, queue: str) -> Any:
    raw = channel.basic_get(queue)
    return None if raw is None else channel.message_to_python(raw)
