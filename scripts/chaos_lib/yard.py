"""The servers of one long run, and a fresh installation for each row on them."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.integration.faults.nodes import Kit, Postgres, Rabbit
from tests.integration.faults.stack import Stack


@dataclass(frozen=True)
class Yard:
    """The kit with its servers; `scale` shrinks every row, for a try."""

    kit: Kit
    postgres: Postgres
    broker: Rabbit
    seed: int
    scale: float = 1.0

    def of(self, number: int) -> int:
        """Return a number of the bar, shrunk by the scale, at least one."""
        return max(1, round(number * self.scale))

    @contextlib.contextmanager
    def stack(
        self,
        *,
        workers: int,
        concurrency: int = 2,
        settings: Mapping[str, str] | None = None,
        database_port: int | None = None,
        broker_port: int | None = None,
    ) -> Iterator[Stack]:
        """Yield an installation with the product's own default times, unless `settings` differ.

        The ports are those of proxies before the servers.
        """
        opened = Stack(
            self.kit,
            self.postgres,
            broker_url=self.broker.url_at(broker_port),
            database_port=database_port,
            settings=settings or {},
        )
        try:
            opened.start(workers=workers, concurrency=concurrency)
            yield opened
        finally:
            opened.end()


@contextlib.contextmanager
def open_yard(seed: int, scale: float) -> Iterator[Yard]:
    """Yield the yard; at the end none of its processes is left."""
    with Kit() as kit:
        postgres, broker = Postgres(kit), Rabbit(kit)
        postgres.start()
        broker.start()
        yield Yard(kit, postgres, broker, seed, scale)
