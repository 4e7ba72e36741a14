"""Which routes have answered some clients, and answers without what differs each time."""

import re
from collections.abc import Callable, Iterable
from typing import Any

import httpx2

METHODS = ("get", "post", "put", "patch", "delete")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_TRACE = re.compile(r"\b[0-9a-f]{32}\b")
# Values that tell of the machine or of chance, whatever their form.
_VOLATILE = {
    "access_token",
    "client_secret",
    "latency_ms",
    "next_cursor",
    "refresh_token",
    "version",
    "worker",
}


class Recorder:
    """Remembers the method and the path of each request of some clients that was answered 2xx."""

    def __init__(self) -> None:
        self.done: set[tuple[str, str]] = set()

    def watch(self, client: httpx2.Client) -> httpx2.Client:
        """Return the client, whose requests are remembered from now on."""
        client.event_hooks = {"request": [], "response": [self._remember]}
        return client

    def _remember(self, answer: httpx2.Response) -> None:
        if answer.is_success:
            self.done.add((answer.request.method, answer.request.url.path))

    def not_done(self, operations: Iterable[str]) -> list[str]:
        """Return the operations, each like `GET /tasks/{task_id}`, that no request has met."""
        pairs = [tuple(operation.split(" ", 1)) for operation in operations]
        templates = {template for _, template in pairs}
        return [
            f"{method} {template}"
            for method, template in pairs
            if not self._met(method, _pattern(template, templates))
        ]

    def _met(self, wanted: str, meets: Callable[[str], bool]) -> bool:
        return any(method == wanted and meets(path) for method, path in self.done)


def operations_of(document: dict[str, Any]) -> list[str]:
    """Return the operations of an OpenAPI document."""
    return [
        f"{method.upper()} {template}"
        for template, methods in document["paths"].items()
        for method in METHODS
        if method in methods
    ]


def _pattern(template: str, templates: Iterable[str]) -> Callable[[str], bool]:
    """Return whether a path is one of this template, and not of one that names it literally."""
    own = re.compile(re.sub(r"\{[^}]+\}", "[^/]+", template))
    literal = {one for one in templates if "{" not in one and one != template}
    return lambda path: own.fullmatch(path) is not None and path not in literal


def seen(answer: httpx2.Response) -> Any:
    """Return the status and the body of an answer, with ids, times and secrets as words."""
    if not answer.content:
        return answer.status_code, None
    if "json" not in answer.headers["content-type"]:
        return answer.status_code, answer.headers["content-type"]
    return answer.status_code, without_chance(answer.json())


def without_chance(value: Any) -> Any:
    """Return a JSON value with what no two installations share replaced by a word for it."""
    if isinstance(value, dict):
        return {
            key: ("<varies>" if one is not None else None)
            if key in _VOLATILE
            else without_chance(one)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [without_chance(one) for one in value]
    if isinstance(value, str):
        for pattern, word in ((_ID, "<id>"), (_TIME, "<time>"), (_TRACE, "<trace>")):
            value = pattern.sub(word, value)
    return value
