"""The two statements that every run needs, claim and success, for several runs at once; and the
look at those that a claim has left out.

On PostgreSQL each is one statement for all of them, transitions and events together; on SQLite one
short transaction. They block: a worker's thread has nothing else to do meanwhile.

Runs are given in the order of their ids, so that two statements that want the same rows take them
in the same order.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from app.common.strict_json import dumps
from app.config.settings import APPLICATION_BIND
from app.db import Databases
from app.tasks.transitions import (
    CLAIM,
    CLAIM_MANY,
    LOOK,
    LOOK_MANY,
    RELEASE,
    RELEASE_MANY,
    SUCCEED,
    SUCCEED_MANY,
    Params,
    Transition,
    write,
)

if TYPE_CHECKING:
    from app.db.hot import HotConnection


class Success(NamedTuple):
    """The end of one attempt that returned; `result_ref` when the storage has the result."""

    run_id: str
    fence: int
    result: object = None
    result_ref: str | None = None


class HotRuns:
    """Claims, ends and gives back runs, for one thread; what the guard refuses is left out of the
    answer.
    """

    def __init__(self, databases: Databases) -> None:
        self._databases = databases
        self._is_postgres = databases.dialect(APPLICATION_BIND) == "postgresql"
        self._connection: HotConnection | None = None

    def claim(self, run_ids: Sequence[str], owner: str, lease_seconds: float) -> Sequence[Any]:
        """Return the claimed runs, with the columns of `CLAIMED`."""
        values = {"actor": "worker", "worker": owner, "lease_seconds": lease_seconds}
        if self._is_postgres:
            return self._execute(CLAIM_MANY, {**values, "run_ids": sorted(run_ids)})
        return self._write(CLAIM, [{**values, "run_id": run_id} for run_id in run_ids])

    def succeed(self, successes: Sequence[Success], worker: str) -> frozenset[str]:
        """Return the ids of the runs that are now SUCCEEDED; the others had lost their lease."""
        told = {"actor": "worker", "worker": worker}
        if not self._is_postgres:
            singles = [{**told, **_single(success)} for success in successes]
            return _ids(self._write(SUCCEED, singles))
        ordered = sorted(successes, key=lambda success: success.run_id)
        values = {
            **told,
            "run_ids": [success.run_id for success in ordered],
            "held_fences": [success.fence for success in ordered],
            "results": [_json(success.result) for success in ordered],
            "result_refs": [success.result_ref for success in ordered],
        }
        return _ids(self._execute(SUCCEED_MANY, values))

    def release(self, run_ids: Sequence[str], owner: str) -> frozenset[str]:
        """Return the ids of the runs whose attempt was given back, uncharged."""
        values = {"actor": "worker", "worker": owner, "owner": owner}
        if self._is_postgres:
            return _ids(self._execute(RELEASE_MANY, {**values, "run_ids": sorted(run_ids)}))
        return _ids(self._write(RELEASE, [{**values, "run_id": run_id} for run_id in run_ids]))

    def look(self, run_ids: Sequence[str]) -> Sequence[Any]:
        """Return the rows of the runs, as far as there are any, with the columns of `BRIEF`, and
        `expires_at`, `lease_expires_at` and the database's `now`.
        """
        if self._is_postgres:
            return self._hot.execute(LOOK_MANY, {"run_ids": list(run_ids)})
        with self._databases.sync_autocommit(APPLICATION_BIND) as connection:
            rows = [connection.execute(LOOK, {"run_id": run_id}) for run_id in run_ids]
            return [row for found in rows for row in found]

    def close(self) -> None:
        """Let go of the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()

    @property
    def _hot(self) -> "HotConnection":
        if self._connection is None:
            self._connection = self._databases.hot_connection(APPLICATION_BIND)
        return self._connection

    def _execute(self, transition: Transition, values: Params) -> Sequence[Any]:
        return self._hot.execute(
            transition.in_one_statement, {"detail": None, "ahead": 0, **values}
        )

    def _write(self, transition: Transition, many: Sequence[Params]) -> Sequence[Any]:
        with self._databases.sync_begin(APPLICATION_BIND) as connection:
            rows = [write(connection, transition, values) for values in many]
        return [row for row in rows if row is not None]


def _single(success: Success) -> Params:
    return {
        "run_id": success.run_id,
        "held_fence": success.fence,
        "result": success.result,
        "result_ref": success.result_ref,
    }


def _json(result: object) -> str | None:
    return None if result is None else dumps(result)


def _ids(rows: Sequence[Any]) -> frozenset[str]:
    return frozenset(str(row.id) for row in rows)
