"""The client's calls for dead letters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict, cast
from urllib.parse import quote

from app.cli.client import Client, Run
from app.common import strict_json

_PAGE = 200
# A chunk is a transaction of some hundred runs, and there may be hundreds of chunks.
READ_TIMEOUT_SECONDS = 600.0


class DeadLetter(TypedDict, total=False):
    """A dead letter; the answer has more fields than are named here."""

    id: str
    state: str
    run_id: str | None
    task: str | None
    error_type: str
    created_at: str


class Counted(TypedDict, total=False):
    """What a call by filter did, or would do; only a replay has a batch and skips."""

    dry_run: bool
    count: int
    batch_id: str | None
    skipped: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class DeadLetterFilters:
    """What dead letters are narrowed to."""

    task: str | None = None
    queue: str | None = None
    error_type: str | None = None
    origin: str | None = None
    since: str | None = None

    def given(self) -> dict[str, str]:
        """Return the filters that are there."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class DeadLetterClient(Client):
    """Speaks to one service about its dead letters."""

    def letters(
        self, filters: DeadLetterFilters, states: Sequence[str], limit: int
    ) -> Iterator[DeadLetter]:
        """Yield up to `limit` letters, newest first."""
        query = [*filters.given().items(), *(("state", state) for state in states)]
        yield from cast("Iterator[DeadLetter]", self._pages("dead-letters", query, limit))

    def groups(self, filters: DeadLetterFilters, limit: int) -> Iterator[dict[str, Any]]:
        """Yield up to `limit` groups, the one with the newest letter first."""
        yield from self._pages("dead-letters/groups", list(filters.given().items()), limit)

    def letter(self, letter_id: str) -> DeadLetter:
        """Return one letter with its message, run and replays."""
        return cast("DeadLetter", self._get(_place(letter_id)))

    def replay(self, letter_id: str, params: Mapping[str, Any] | None, reason: str | None) -> Run:
        """Replay one letter; return the accepted run."""
        body = {"params": params, "reason": reason}
        return cast("Run", self._post(f"{_place(letter_id)}/replay", body))

    def replay_all(
        self,
        filters: DeadLetterFilters,
        *,
        rate_per_second: float | None,
        reason: str | None,
        dry_run: bool,
    ) -> Counted:
        """Replay the open letters that match, or count them."""
        body = {
            "filter": filters.given(),
            "rate_per_second": rate_per_second,
            "reason": reason,
            "dry_run": dry_run,
        }
        return cast("Counted", self._post("dead-letters/replay", body))

    def discard(self, letter_id: str, reason: str | None) -> None:
        """Put one letter aside."""
        query = [] if reason is None else [("reason", reason)]
        self._send("DELETE", _place(letter_id), params=query)

    def discard_all(
        self, filters: DeadLetterFilters, *, reason: str | None, dry_run: bool
    ) -> Counted:
        """Put the letters that match aside, or count them."""
        body = {"filter": filters.given(), "reason": reason, "dry_run": dry_run}
        return cast("Counted", self._post("dead-letters/discard", body))

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json"}
        return self._send("POST", path, content=strict_json.dump_bytes(body), headers=headers)

    def _pages(
        self, path: str, query: Sequence[tuple[str, str]], limit: int
    ) -> Iterator[dict[str, Any]]:
        cursor = None
        while limit > 0:
            asked = [*query, ("limit", str(min(limit, _PAGE)))]
            page = self._get(path, [*asked, ("cursor", cursor)] if cursor else asked)
            items = self._items(page)
            yield from items[:limit]
            limit -= len(items)
            cursor = page.get("next_cursor")
            if cursor is None:
                return


def _place(letter_id: str) -> str:
    return f"dead-letters/{quote(letter_id, safe='')}"
