"""The plugin of the benchmark: tasks that do nothing but count themselves."""

from app import Plugin, register_task
from bench.peers.tally import stamp, tick

PLUGIN = Plugin(name="bench", version="1.0.0")


@register_task("bench.nothing")
def nothing() -> None:
    """Do nothing."""
    tick()


@register_task("bench.stamped")
def stamped(sent_ns: int) -> None:
    """Keep how long ago the run was sent."""
    stamp(sent_ns)
