"""A small client of the HTTP API: typed answers in, problems out as failures of the command."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self, TypedDict, cast
from urllib.parse import quote, urlsplit

import httpx2

from app.cli.event_stream import StreamEvent, read_events
from app.cli.exit_codes import ExitCode, exit_code_of_status
from app.cli.failures import GET_TOKEN, CommandError, Failure, place, usage_error
from app.common import strict_json
from app.common.redaction import mask_text

API_PREFIX = "/api/v1"
CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
_PAGE = 200
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
_TEXT_SHOWN = 2000


class RegisteredTask(TypedDict):
    """A task that can be run; the answer has more fields than are named here."""

    name: str
    description: str
    plugin: str
    kind: str
    queue: str
    params_schema: dict[str, Any]


class Run(TypedDict, total=False):
    """One run; right after it was accepted only the first four fields are there."""

    task_id: str
    task: str
    status: str
    created_at: str
    params: dict[str, Any]
    result: Any
    result_stored: bool
    error: dict[str, Any] | None
    attempt: int
    max_attempts: int
    progress: dict[str, Any] | None


class LogLine(TypedDict):
    """A line that a task wrote through its context."""

    at: str
    level: str
    message: str
    fields: dict[str, Any] | None


_EXACT = (
    "task", "queue", "created_after", "created_before", "batch_id", "parent_id", "trace_id", "q",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class RunFilters:
    """What a list of runs is narrowed to."""

    statuses: Sequence[str] = ()
    task: str | None = None
    queue: str | None = None
    labels: Mapping[str, str] | None = None
    created_after: str | None = None
    created_before: str | None = None
    batch_id: str | None = None
    parent_id: str | None = None
    trace_id: str | None = None
    q: str | None = None

    def query(self) -> list[tuple[str, str]]:
        """Return the parameters of the query string."""
        query = [("status", status) for status in self.statuses]
        query += [(name, value) for name in _EXACT if (value := getattr(self, name))]
        return query + [(f"label.{key}", value) for key, value in (self.labels or {}).items()]


class Client:
    """Speaks to one service; every problem is raised as a CommandError with its exit code."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> None:
        self._base = _base_of(url)
        headers = {"Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {_checked_token(token)}"
        self._http = httpx2.Client(
            headers=headers,
            timeout=httpx2.Timeout(read_timeout_seconds, connect=CONNECT_TIMEOUT_SECONDS),
            # A proxy from the environment has no business between two processes of one machine.
            trust_env=urlsplit(self._base).hostname not in _LOOPBACK,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def registered_tasks(self) -> list[RegisteredTask]:
        """Return every task that the caller may know of."""
        return cast("list[RegisteredTask]", self._items(self._get("tasks/registered")))

    def registered_task(self, name: str) -> RegisteredTask:
        """Return one task."""
        return cast("RegisteredTask", self._get(f"tasks/registered/{_segment(name)}"))

    def run_task(self, wish: Mapping[str, Any], *, idempotency_key: str | None = None) -> Run:
        """Return the accepted run; `wish` is the body of the request."""
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        body = strict_json.dump_bytes(wish)
        return cast("Run", self._send("POST", "tasks/run", content=body, headers=headers))

    def runs(self, filters: RunFilters, limit: int) -> Iterator[Run]:
        """Yield up to `limit` runs, newest first, from as many pages as that takes."""
        cursor = None
        while limit > 0:
            query = [*filters.query(), ("limit", str(min(limit, _PAGE)))]
            page = self._get("tasks", [*query, ("cursor", cursor)] if cursor else query)
            items = self._items(page)
            yield from cast("list[Run]", items[:limit])
            limit -= len(items)
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    def run(self, task_id: str) -> Run:
        """Return one run, with a result that is too large for its row."""
        path = f"tasks/{_segment(task_id)}"
        run = cast("Run", self._get(path))
        if run.get("result_stored"):
            run["result"] = self._result(f"{path}/result")
        return run

    def _result(self, path: str) -> Any:
        try:
            return json.loads(self._exchange("GET", path).content)
        except (ValueError, RecursionError):
            raise self._unexpected("is no JSON document") from None

    def logs(self, task_id: str, level: str | None = None) -> Iterator[LogLine]:
        """Yield the lines that the run's task wrote, oldest first, from as many pages as there
        are.
        """
        query = [("limit", "1000"), *([("level", level)] if level else [])]
        cursor: str | None = None
        while True:
            more = [("cursor", cursor)] if cursor else []
            page = self._get(f"tasks/{_segment(task_id)}/logs", [*query, *more])
            yield from cast("list[LogLine]", self._items(page))
            cursor = page.get("next_cursor")
            if cursor is None:
                return

    @contextmanager
    def stream(
        self, task_id: str, after: str | None, silence_seconds: float
    ) -> Iterator[Iterator[StreamEvent]]:
        """Open the run's stream behind the event with the id `after`."""
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after else {})}
        url = f"{self._base}{API_PREFIX}/tasks/{_segment(task_id)}/stream"
        limits = httpx2.Timeout(silence_seconds, connect=CONNECT_TIMEOUT_SECONDS)
        try:
            with self._http.stream("GET", url, headers=headers, timeout=limits) as response:
                if not response.is_success:
                    response.read()
                    raise CommandError(_problem(response))
                if not _is_event_stream(response):
                    raise self._unexpected("is no stream of events")
                yield read_events(response.iter_lines())
        except httpx2.TimeoutException as error:
            raise self._unreachable("did not answer in time") from error
        except httpx2.HTTPError as error:
            raise self._unreachable(f"cannot be reached: {error}") from error

    def cancel(self, task_id: str) -> Run:
        """Cancel a run, or ask it to stop; return it as it stands now."""
        return cast("Run", self._send("POST", f"tasks/{_segment(task_id)}/cancel"))

    def rerun(
        self,
        task_id: str,
        params: Mapping[str, Any] | None = None,
        *,
        idempotency_key: str | None = None,
    ) -> Run:
        """Return a new run like this one, with other parameters when they are given."""
        headers = {"Content-Type": "application/json"}
        if idempotency_key is not None:
            headers["Idempotency-Key"] = idempotency_key
        body = strict_json.dump_bytes({} if params is None else {"params": params})
        path = f"tasks/{_segment(task_id)}/rerun"
        return cast("Run", self._send("POST", path, content=body, headers=headers))

    def _get(self, path: str, query: Sequence[tuple[str, str]] = ()) -> dict[str, Any]:
        return self._send("GET", path, params=list(query))

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        response = self._exchange(method, path, **options)
        # Where the status says it all there is no document.
        is_empty = response.status_code == HTTPStatus.NO_CONTENT
        document = {} if is_empty else _json_object(response)
        if document is None:
            raise self._unexpected("is not a JSON object")
        return document

    def _exchange(self, method: str, path: str, **options: Any) -> httpx2.Response:
        try:
            response = self._http.request(method, f"{self._base}{API_PREFIX}/{path}", **options)
        except httpx2.TimeoutException as error:
            raise self._unreachable("did not answer in time") from error
        except httpx2.HTTPError as error:
            raise self._unreachable(f"cannot be reached: {error}") from error
        if not response.is_success:
            raise CommandError(_problem(response))
        return response

    def _items(self, page: dict[str, Any]) -> list[dict[str, Any]]:
        items = page.get("items")
        if not isinstance(items, list):
            raise self._unexpected("is not a list")
        return items

    def _unexpected(self, what: str) -> CommandError:
        return CommandError(
            Failure(
                code="UNEXPECTED_ANSWER",
                detail=f"The answer of {self._base} {what}.",
                exit_code=ExitCode.UNAVAILABLE,
                hint="Is this the address of a Taskyard service? See --url and TASKYARD_URL.",
            )
        )

    def _unreachable(self, what: str) -> CommandError:
        return CommandError(
            Failure(
                code="SERVICE_UNREACHABLE",
                detail=f"The service at {self._base} {what}.",
                exit_code=ExitCode.UNAVAILABLE,
                hint="Start it, or name another one with --url or TASKYARD_URL.",
                next_command="taskyard dev",
            )
        )


def _base_of(url: str) -> str:
    base = url.strip().rstrip("/").removesuffix(API_PREFIX)
    if not _is_base(base):
        raise usage_error(
            f"'{mask_text(url)}' is not the address of a service.",
            hint="It looks like http://127.0.0.1:8000; see --url and TASKYARD_URL.",
        )
    return base


def _is_base(url: str) -> bool:
    try:
        parts = urlsplit(url)
        httpx2.URL(url)
        port = parts.port
    except (ValueError, httpx2.InvalidURL):
        return False
    # A name and password in the address would take the place of the token.
    extras = parts.username or parts.password or parts.query or parts.fragment
    return parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0 and not extras


def _checked_token(token: str) -> str:
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token:
        raise usage_error(
            "The access token holds characters that no token has.",
            next_command=GET_TOKEN,
        )
    return token


def _segment(text: str) -> str:
    return quote(text, safe="")


def _is_event_stream(response: httpx2.Response) -> bool:
    # 204 stands for a stream whose end the client has seen.
    told = response.headers.get("Content-Type", "")
    return response.status_code == 204 or told.startswith("text/event-stream")


def _problem(response: httpx2.Response) -> Failure:
    document = _problem_document(response)
    status = response.status_code
    fields = [
        (place(one["loc"]), str(one["msg"]))
        for one in document.get("errors") or ()
        if isinstance(one, dict) and isinstance(one.get("loc"), list) and "msg" in one
    ]
    return Failure(
        code=str(document.get("code") or f"HTTP_{status}"),
        detail=mask_text(str(document.get("detail") or _phrase(status)))[:_TEXT_SHOWN],
        exit_code=exit_code_of_status(status),
        hint=document.get("hint") or _retry_hint(response),
        fields=fields,
        trace_id=document.get("trace_id"),
    )


def _problem_document(response: httpx2.Response) -> dict[str, Any]:
    is_json = "json" in response.headers.get("content-type", "")
    return (_json_object(response) if is_json else None) or {}


def _json_object(response: httpx2.Response) -> dict[str, Any] | None:
    # Lenient on purpose: a result may hold numbers that a request could not.
    try:
        document = json.loads(response.content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _phrase(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "unknown status"
    return f"The answer was {status} ({phrase}), without a word from Taskyard."


def _retry_hint(response: httpx2.Response) -> str | None:
    seconds = response.headers.get("retry-after", "")
    return f"Try again in {seconds} s." if seconds.isdigit() else None
