"""What became of the accepted runs, counted from rows, events, effects and starts."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields

from tests.integration.faults.stack import ENDED, Stack


@dataclass(frozen=True)
class Verdict:
    """Numbers of runs. All but `accepted`, `started_again` and `retried` have to be 0."""

    accepted: int
    lost: int  # Accepted, and has no row.
    stuck: int  # Has not ended.
    failed: int  # Ended otherwise than SUCCEEDED.
    recorded_twice: int  # More than one outcome that ends a run.
    stale_writes: int  # An outcome that does not follow its own attempt's start.
    wrong_effects: int  # Succeeded without exactly one effect of the attempt that succeeded.
    surplus: int  # Runs and effects of nobody's request.
    started_again: int
    retried: int

    @property
    def faults(self) -> dict[str, int]:
        """Return what should be 0 and is not."""
        told = ("accepted", "started_again", "retried")
        values = {item.name: int(getattr(self, item.name)) for item in fields(self)}
        return {name: value for name, value in values.items() if value and name not in told}


def judge(stack: Stack, accepted: Iterable[str], *, effects: bool = True) -> Verdict:
    """Return the verdict over the accepted runs; with `effects` each has to have left one row."""
    ids = set(accepted)
    rows = {
        str(run_id): (status, attempt)
        for run_id, status, attempt in stack.sql("SELECT id, status, attempt FROM task_runs")
    }
    ends, stale = _read_events(stack)
    written: dict[str, list[int]] = {}
    for run_id, attempt in stack.sql("SELECT run_id, attempt FROM fault_effects"):
        written.setdefault(str(run_id), []).append(attempt)
    started = Counter(run_id for run_id, *_ in stack.starts())
    known = ids & rows.keys()
    succeeded = {run_id for run_id in known if rows[run_id][0] == "SUCCEEDED"}
    return Verdict(
        accepted=len(ids),
        lost=len(ids - rows.keys()),
        stuck=sum(rows[run_id][0] not in ENDED for run_id in known),
        failed=sum(rows[run_id][0] in ENDED for run_id in known - succeeded),
        recorded_twice=sum(ends[run_id] > 1 for run_id in rows),
        stale_writes=stale,
        wrong_effects=sum(
            written.get(run_id, []) != [rows[run_id][1]] for run_id in succeeded if effects
        ),
        surplus=len(rows.keys() - ids) + len(written.keys() - succeeded),
        started_again=sum(count > 1 for run_id, count in started.items() if run_id in ids),
        retried=sum(rows[run_id][1] > 1 for run_id in known),
    )


def _read_events(stack: Stack) -> tuple[Counter[str], int]:
    """Return the final outcomes per run, and how many outcomes were written under an old fence.

    A worker's outcome has to follow the start of its own attempt: when another start, or the
    sweeper's taking back, lies between the two, the attempt had lost its lease.
    """
    ends: Counter[str] = Counter()
    stale = 0
    last: dict[str, tuple[str, int]] = {}
    for run_id, to_status, attempt, actor in stack.sql(
        "SELECT run_id, to_status, attempt, actor FROM task_run_events ORDER BY id"
    ):
        run = str(run_id)
        ends[run] += to_status in ENDED
        if actor == "worker" and to_status in ("SUCCEEDED", "FAILED", "RETRYING"):
            # An attempt that is given back is not charged: its number goes with it.
            given_back = ("RUNNING", attempt + (to_status == "RETRYING"))
            stale += last.get(run) not in {("RUNNING", attempt), given_back}
        last[run] = (to_status, attempt)
    return ends, stale
