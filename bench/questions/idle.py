"""What does a system do that has nothing to do?

API, worker and beat have done some work and then have none. Each talks to PostgreSQL through a
door of its own that counts the statements, BEGIN and COMMIT included; the processor time is the
kernel's count for the process and all below it. The bars are for a worker alone and for a worker
with its beat; the API stands beside them.
"""

import contextlib
import time
from collections.abc import Mapping

from sqlalchemy.engine import make_url

from bench.apis import serving
from bench.counting_proxy import CountingProxy, counting
from bench.processes import spending
from bench.rounds import Bar, Bench
from bench.running import Process, wait_for_count
from bench.sides import OURS

TITLE = "nothing to do"
QUERIES, SHARE = "statements", "processor time"
_WORKER, _BEAT = "taskyard worker", "taskyard beat"
_BOTH = "worker and beat"
BARS = (
    Bar(QUERIES, _WORKER, None, "at most", 1.0),
    Bar(SHARE, _WORKER, None, "at most", 1.0),
    Bar(QUERIES, _BOTH, None, "at most", 1.0),
    Bar(SHARE, _BOTH, None, "at most", 1.0),
)
_SETTLE_SECONDS = 10.0
_SECONDS = 30.0


def measure(bench: Bench) -> None:
    """Look at the three kinds of processes, one window per round."""
    roles = (_WORKER, "taskyard api", _BEAT)
    url = make_url(bench.yard.database("taskyard"))
    with contextlib.ExitStack() as stack:
        doors = {
            role: stack.enter_context(counting(url.host or "127.0.0.1", url.port or 5432))
            for role in roles
        }
        through = {
            role: url.set(host="127.0.0.1", port=door.port).render_as_string(hide_password=False)
            for role, door in doors.items()
        }
        control = stack.enter_context(bench.yard.control(OURS))
        api = stack.enter_context(serving(bench.yard, OURS, through["taskyard api"]))
        process, tally = stack.enter_context(bench.yard.worker(OURS, through[_WORKER]))
        beat = stack.enter_context(bench.yard.beat(through[_BEAT]))
        processes = {_WORKER: process, "taskyard api": api.process, _BEAT: beat}
        control.call("stamped", count=20, gap=0.05)
        wait_for_count(process, tally, 20)
        time.sleep(_SETTLE_SECONDS)
        for number in range(bench.rounds):
            _window(bench, number, doors, processes)


def _window(
    bench: Bench,
    number: int,
    doors: Mapping[str, CountingProxy],
    processes: Mapping[str, Process],
) -> None:
    seconds = max(5.0, _SECONDS * bench.scale)
    made: dict[str, float] = {}
    spent: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        before = {
            role: (
                doors[role].statements,
                stack.enter_context(spending(processes[role].popen.pid)),
            )
            for role in doors
        }
        time.sleep(seconds)
        for role, (statements, used) in before.items():
            processes[role].check()
            made[role] = (doors[role].statements - statements) / seconds
            spent[role] = 100 * used.seconds / seconds
    for found in (made, spent):
        found[_BOTH] = found[_WORKER] + found[_BEAT]
    for role, value in made.items():
        bench.note(QUERIES, role, number, value, "1/s")
        bench.note(SHARE, role, number, spent[role], "% of a core")
