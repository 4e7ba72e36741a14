"""The client's calls for schedules."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast
from urllib.parse import quote

from app.cli.client import Client, Run
from app.common import strict_json

_PAGE = 200


class Schedule(TypedDict, total=False):
    """A schedule; the answer has more fields than are named here."""

    id: str
    name: str
    task: str
    is_active: bool
    next_fire_at: str | None


class FireTime(TypedDict):
    """A moment to come, in UTC and on the clock of the schedule's zone."""

    fire_time: str
    local_time: str


class ScheduleClient(Client):
    """Speaks to one service about its schedules."""

    def schedules(self, filters: Sequence[tuple[str, str]], limit: int) -> Iterator[Schedule]:
        """Yield up to `limit` schedules, newest first."""
        cursor = None
        while limit > 0:
            query = [*filters, ("limit", str(min(limit, _PAGE)))]
            page = self._get("schedules", [*query, ("cursor", cursor)] if cursor else query)
            items = self._items(page)
            yield from cast("list[Schedule]", items[:limit])
            limit -= len(items)
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def schedule(self, schedule_id: str) -> Schedule:
        """Return one schedule."""
        return cast("Schedule", self._get(_place(schedule_id)))

    def create(self, wish: Mapping[str, Any]) -> Schedule:
        """Make a schedule."""
        return cast("Schedule", self._write("POST", "schedules", wish))

    def change(self, schedule_id: str, changes: Mapping[str, Any]) -> Schedule:
        """Change a schedule."""
        return cast("Schedule", self._write("PATCH", _place(schedule_id), changes))

    def run_now(self, schedule_id: str) -> Run:
        """Run a schedule now; return the accepted run."""
        return cast("Run", self._send("POST", f"{_place(schedule_id)}/run"))

    def preview(self, schedule_id: str, count: int) -> list[FireTime]:
        """Return the next fire times."""
        page = self._get(f"{_place(schedule_id)}/preview", [("count", str(count))])
        return cast("list[FireTime]", self._items(page))

    def firings(self, schedule_id: str, limit: int) -> list[dict[str, Any]]:
        """Return what became of the last fire times, newest first."""
        query = [("limit", str(min(limit, _PAGE)))]
        return self._items(self._get(f"{_place(schedule_id)}/firings", query))

    def delete(self, schedule_id: str) -> None:
        """Remove a schedule."""
        self._send("DELETE", _place(schedule_id))

    def _write(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self._send(method, path, content=strict_json.dump_bytes(body), headers=headers)


def _place(schedule_id: str) -> str:
    return f"schedules/{quote(schedule_id, safe='')}"
