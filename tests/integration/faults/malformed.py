"""Messages that nobody of ours has sent: the classes M1 to M10 of broken ones, and random bytes."""

import json
import pickle
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from app.celery_worker import messages
from tests.integration.faults.processes import wait_until
from tests.integration.faults.stack import Stack

TASK: Final = "faults.note_start"
_FORGED_DEATHS: Final = [
    {
        "count": 1_000_000,
        "reason": "rejected",
        "queue": "default",
        "exchange": "",
        "routing-keys": [],
    }
]


@dataclass(frozen=True)
class BadMessage:
    """Bytes and properties as they go on the queue."""

    name: str
    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str | None = "application/json"
    content_encoding: str | None = "utf-8"


def headers_of(run_id: str, task: str = TASK, **more: Any) -> dict[str, Any]:
    return {"lang": "py", "task": task, "id": run_id, "root_id": run_id, **more}


def unknown_run() -> dict[str, Any]:
    return headers_of(str(uuid.uuid4()))


def bad_messages(choices: random.Random, count: int) -> Iterator[BadMessage]:
    """Yield so many messages, every class in turn; none of them names a run that exists."""
    for number in range(count):
        yield _CLASSES[number % len(_CLASSES)](choices)


def _m1(choices: random.Random) -> BadMessage:
    body = choices.choice([b"", b"{", b"not json", b"[[], {}, ", b"\xff\xfe", b"NaN}"])
    return BadMessage("M1 no JSON", body, unknown_run())


def _m2(choices: random.Random) -> BadMessage:
    body: Any = choices.choice(
        [{"a": 1}, [], [1], [[], {}], "text", 7, None, [[], [], {}], [{}, {}, 1]]
    )
    return BadMessage("M2 no task body", json.dumps(body).encode(), unknown_run())


def _m3(choices: random.Random) -> BadMessage:
    content_type = choices.choice(["application/x-python-serialize", "application/x-yaml", "a/b"])
    return BadMessage("M3 foreign type", pickle.dumps(print), unknown_run(), content_type, "binary")


def _m4(choices: random.Random) -> BadMessage:
    encoding = choices.choice(["utf-99", "\u00fcbel", "zip", "utf-16"])
    return BadMessage("M4 encoding", messages.BODY, unknown_run(), content_encoding=encoding)


def _m5(choices: random.Random) -> BadMessage:
    task = choices.choice(["no.such_task", "faults.note", "../x", "", "os.system"])
    return BadMessage("M5 unknown task", messages.BODY, headers_of(str(uuid.uuid4()), task))


def _m5_of_celery(choices: random.Random) -> BadMessage:
    # They come with every Celery app, and each is called here as it wants to be.
    part = {"task": "celery.accumulate"}
    task, arguments = choices.choice(
        [
            ("celery.backend_cleanup", []),
            ("celery.accumulate", [1, 2]),
            ("celery.map", [part, [1, 2]]),
            ("celery.starmap", [part, [[1], [2]]]),
            ("celery.chunks", [part, [[1], [2]], 1]),
            ("celery.chord_unlock", ["group", part]),
        ]
    )
    body = json.dumps([arguments, {}, {}]).encode()
    return BadMessage("M5 Celery's own task", body, headers_of(str(uuid.uuid4()), task))


def _m6(choices: random.Random) -> BadMessage:
    run_id = choices.choice([str(uuid.uuid4()), "no-uuid", "' OR 1=1 --", "", "\u0000"])
    return BadMessage("M6 unknown run", messages.BODY, headers_of(run_id))


def _m7(choices: random.Random) -> BadMessage:
    return BadMessage("M7 large", choices.randbytes(1024) * 10_240, unknown_run())


def _m8(choices: random.Random) -> BadMessage:
    content_type = choices.choice([None, "application/json"])
    return BadMessage("M8 no headers", messages.BODY, {}, content_type)


def _m9(choices: random.Random) -> BadMessage:
    body = [["forged"], {"seconds": choices.random()}, {}]
    return BadMessage("M9 forged arguments", json.dumps(body).encode(), unknown_run())


def _m10(_: random.Random) -> BadMessage:
    headers = {**unknown_run(), "x-death": _FORGED_DEATHS}
    return BadMessage("M10 forged history", messages.BODY, headers)


def _noise(choices: random.Random) -> BadMessage:
    body = choices.randbytes(choices.randrange(1, 2000))
    known = choices.random() < 0.5
    return BadMessage("random bytes", body, unknown_run() if known else {})


_CLASSES: Final = (_m1, _m2, _m3, _m4, _m5, _m5_of_celery, _m6, _m7, _m8, _m9, _m10, _noise)


@dataclass(frozen=True)
class MalformedReport:
    """What was sent, what was kept of it, and whether the workers lived through it."""

    sent: int
    kept: int
    worker_exits: int
    child_exits: int
    forged_ran_once: bool
    works_afterwards: bool


def run_malformed(stack: Stack, *, count: int, seed: int) -> MalformedReport:
    """Put the messages on the queue, and two forged ones for runs that exist; count the letters."""
    before = stack.sql("SELECT count(*) FROM dead_letters")[0][0]
    pids = {worker.pid for worker in stack.workers}
    children = {pid for worker in stack.workers for pid in worker.children}
    for bad in bad_messages(random.Random(seed), count):
        stack.publish(
            bad.body,
            headers=bad.headers,
            content_type=bad.content_type,
            content_encoding=bad.content_encoding,
        )
    forged = [_forge(stack, history=history) for history in (False, True)]

    def kept() -> int:
        return int(stack.sql("SELECT count(*) FROM dead_letters")[0][0]) - int(before)

    wait_until(lambda: kept() >= count, lambda: f"{count} letters: {kept()} in {stack.folder}")
    alive = {worker.pid for worker in stack.workers if worker.is_running}
    living = {pid for worker in stack.workers for pid in worker.children}
    after = stack.submit(TASK)
    return MalformedReport(
        sent=count,
        kept=kept(),
        worker_exits=len(pids - alive),
        child_exits=len(children - living),
        forged_ran_once=all(
            stack.await_status(run, "SUCCEEDED") and stack.attempt(run) == 1 for run in forged
        ),
        works_afterwards=stack.await_status(after, "SUCCEEDED", "FAILED") == "SUCCEEDED",
    )


def _forge(stack: Stack, *, history: bool) -> str:
    """Return a run whose wake-up comes a second time with forged arguments or a forged history."""
    run_id = stack.submit(TASK)
    more: dict[str, Any] = {"x-death": _FORGED_DEATHS} if history else {}
    body = json.dumps([["forged"], {"seconds": 3600}, {}]).encode()
    stack.publish(body, headers=headers_of(run_id, **more))
    return run_id
