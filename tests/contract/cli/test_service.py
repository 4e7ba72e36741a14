"""The client commands against the service itself, started as `taskyard dev` starts it.

The fake service of the unit tests answers what we believe; this one answers what is true.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from tests.unit.cli.commands import Outcome, run_program

PLUGIN = '''
import asyncio

from pydantic import BaseModel

from app import Fatal, Plugin, TaskContext, register_task

PLUGIN = Plugin(name="drill", version="1.0.0")


class Answer(BaseModel):
    text: str
    number: int | None


@register_task("drill.echo")
async def echo(ctx: TaskContext, text: str, number: int | None = None) -> Answer:
    """Give back what came."""
    ctx.log.info("echoing", text=text)
    return Answer(text=text, number=number)


@register_task("drill.fail", max_attempts=1)
async def fail() -> None:
    """Fail for good."""
    raise Fatal("no such table")


@register_task("drill.wait", timeout_seconds=60)
async def wait(ctx: TaskContext) -> None:
    """Wait until it is cancelled."""
    await ctx.progress(1, 2, "waiting")
    while True:
        ctx.raise_if_cancelled()
        await asyncio.sleep(0.05)
'''


@dataclass(frozen=True)
class Installation:
    """A folder in which a service runs."""

    folder: Path
    url: str
    token: str

    def taskyard(self, *arguments: str, **environment: str) -> Outcome:
        variables = {"TASKYARD_URL": self.url, "TASKYARD_TOKEN": self.token}
        return run_program(
            *arguments, cwd=self.folder, **settings(self.folder), **variables | environment
        )


def settings(folder: Path) -> dict[str, str]:
    return {"PYTHONPATH": str(folder), "TASKYARD_PLUGINS": '["drill_plugin_for_tests"]'}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("service")
    (folder / "drill_plugin_for_tests.py").write_text(PLUGIN, "utf-8")
    command = [sys.executable, "-c", "from app.cli import main; main()"]
    with subprocess.Popen(
        [*command, "dev", "--port", "0", "--no-browser"],
        cwd=folder,
        env=os.environ | settings(folder),
        stdout=subprocess.PIPE,
        stderr=(folder / "log").open("w"),
        text=True,
    ) as running:
        try:
            assert running.stdout is not None
            url = next(
                found[1]
                for line in running.stdout
                if (found := re.search(r"runs at +(http://\S+)", line))
            )
            token = run_program("token", cwd=folder, **settings(folder))
            assert token.code == 0, token.err
            yield Installation(folder, url, token.out.strip())
        finally:
            running.send_signal(signal.SIGINT)
            running.communicate(timeout=30)


def test_the_registry(service: Installation) -> None:
    listed = service.taskyard("tasks", "list")
    assert [task["name"] for task in listed.document] == ["drill.echo", "drill.fail", "drill.wait"]
    shown = service.taskyard("tasks", "show", "drill.echo").document
    assert shown["params_schema"]["properties"]["text"]["type"] == "string"


def test_the_settings_tell_the_address_that_is_listened_on(service: Installation) -> None:
    headers = {"Authorization": f"Bearer {service.token}"}
    told = httpx2.get(f"{service.url}/api/v1/config", headers=headers, trust_env=False).json()
    assert f"http://{told['server']['host']}:{told['server']['port']}" == service.url


def test_a_task_that_succeeds(service: Installation) -> None:
    run = service.taskyard(
        *("tasks", "run", "drill.echo", "-p", "text=5", "-p", "number=5", "--wait"),
        *("--timeout", "60"),
    )
    assert run.code == 0, run.err
    assert run.document["result"] == {"text": "5", "number": 5}
    task_id = run.document["task_id"]
    assert service.taskyard("runs", "show", task_id).document == run.document
    (line,) = service.taskyard("runs", "logs", task_id).document
    assert line["message"] == "echoing"
    assert line["fields"] == {"text": "5"}
    listed = service.taskyard("runs", "list", "--task", "drill.echo", "--status", "succeeded")
    assert task_id in [one["task_id"] for one in listed.document]


def test_a_task_that_fails(service: Installation) -> None:
    run = service.taskyard("tasks", "run", "drill.fail", "--wait", "--timeout", "60")
    assert run.code == 1
    assert run.document["status"] == "FAILED"
    assert "no such table" in run.err


def test_what_failed_is_replayed_and_discarded(service: Installation) -> None:
    ids = []
    for _ in range(2):
        run = service.taskyard("tasks", "run", "drill.fail", "--wait", "--timeout", "60")
        ids.append(run.document["dead_letter_id"])
    listed = service.taskyard("dead-letters", "list", "--task", "drill.fail", "--limit", "2")
    assert [letter["id"] for letter in listed.document] == ids[::-1]
    (group,) = service.taskyard("dead-letters", "groups", "--task", "drill.fail").document
    assert (group["error_type"], group["last_dead_letter_id"]) == ("Fatal", ids[1])
    wrong = service.taskyard("dead-letters", "replay", ids[0], "--params", '{"text": 1}')
    assert wrong.code == 2
    assert "body.params.text" in wrong.err
    replayed = service.taskyard("dead-letters", "replay", ids[0], "--reason", "once more")
    assert replayed.code == 0, replayed.err
    shown = service.taskyard("dead-letters", "show", ids[0]).document
    assert shown["replay_run_id"] == replayed.document["task_id"]
    again = service.taskyard("dead-letters", "replay", ids[0])
    assert again.code == 1
    assert f"next: taskyard dead-letters show {ids[0]}" in again.err
    put_aside = service.taskyard("dead-letters", "discard", ids[0], "--reason", "seen")
    assert (put_aside.document["state"], put_aside.document["discard_reason"]) == (
        "discarded",
        "seen",
    )
    since = ("--task", "drill.fail", "--since", listed.document[0]["created_at"])
    counted = service.taskyard("dead-letters", "replay", *since, "--dry-run")
    assert counted.document["count"] >= 1
    done = service.taskyard("dead-letters", "replay", *since, "--rate", "50")
    assert done.document["count"] >= 1
    gone = service.taskyard("dead-letters", "discard", *since, "--reason", "the drill is over")
    assert gone.document["count"] >= 1
    wrong = service.taskyard("dead-letters", "list", "--state", "gone")
    assert wrong.code == 2


def test_a_task_that_is_cancelled(service: Installation) -> None:
    run = service.taskyard("tasks", "run", "drill.wait", "--wait", "--timeout", "0.5")
    assert run.code == 6, run.err
    task_id = run.document["task_id"]
    assert service.taskyard("runs", "cancel", task_id).code == 0
    watched = service.taskyard("runs", "watch", task_id, "--timeout", "60")
    assert watched.code == 1
    assert watched.document["status"] == "CANCELLED"
    again = service.taskyard("runs", "cancel", task_id)
    assert again.code == 1
    assert f"next: taskyard runs show {task_id}" in again.err


def test_the_same_key_gives_the_same_run(service: Installation) -> None:
    call = ("tasks", "run", "drill.echo", "-p", "text=a", "--idempotency-key", "key-1")
    first, second = service.taskyard(*call), service.taskyard(*call)
    assert first.document["task_id"] == second.document["task_id"]
    other = service.taskyard(*call[:3], "-p", "text=b", *call[5:])
    assert other.code == 2
    assert "IDEMPOTENCY_KEY_REUSED" in other.err


@pytest.mark.parametrize(
    ("arguments", "exit_code", "told"),
    [
        (("tasks", "run", "drill.ecko"), 3, "drill.echo"),
        (("tasks", "show", "drill.ecko"), 3, "drill.echo"),
        (("tasks", "run", "drill.echo"), 2, "text"),
        (("tasks", "run", "drill.echo", "-p", "text=a", "-p", "number=x"), 2, "number"),
        (("tasks", "run", "drill.echo", "-p", "text=a", "-p", "more=x"), 2, "more"),
        (("runs", "show", "01890a5d-ac96-774b-bcce-b302099a8057"), 3, "RUN_NOT_FOUND"),
        (("runs", "list", "--status", "NOPE"), 2, "status"),
        (("runs", "list", "--token", "a.b.c"), 4, "access token"),
    ],
)
def test_what_is_wrong_is_told(
    arguments: tuple[str, ...], exit_code: int, told: str, service: Installation
) -> None:
    ended = service.taskyard(*arguments)
    assert ended.code == exit_code, ended.err
    assert told in ended.err
    assert "next: taskyard" in ended.err or "next: export TASKYARD_TOKEN" in ended.err
    assert ended.out == ""


def test_a_token_that_may_not(service: Installation) -> None:
    reader = service.taskyard("token", "--scope", "tasks:read")
    ended = service.taskyard("tasks", "run", "drill.fail", TASKYARD_TOKEN=reader.out.strip())
    assert ended.code == 4
    assert "tasks:run" in ended.err
    assert reader.out.strip() not in ended.err
