"""What was linted before is not linted again: nothing of it shows but the time."""

from typing import Any

import pytest
from prometheus_client import REGISTRY

from app import TaskContext
from tests.contract.plugins.lint.test_faults import deliver_all_attempts
from tests.contract.plugins.lint.yard import Yard

GOOD = b"SELECT a FROM b\n"
UGLY = b"select a,b from c\n"
BROKEN = b"SELECT (a FROM b\n"
MEMBERS = {"good.sql": GOOD, "ugly.sql": UGLY, "broken.sql": BROKEN}


def lints() -> float:
    """How many texts were given to a sandbox that answered."""
    return REGISTRY.get_sample_value("taskyard_lint_seconds_count", {"dialect": "ansi"}) or 0


def documents(yard: Yard, job_id: str) -> dict[str, Any]:
    return {
        name: yard.call("GET", f"/api/v1/tasks/{item['task_id']}/result").json()
        for name, item in yard.files(job_id).items()
    }


def outcomes(yard: Yard, job_id: str) -> dict[str, tuple[Any, ...]]:
    return {
        name: (item["status"], item.get("error_message"), item.get("violation_count"))
        for name, item in yard.files(job_id).items()
    }


def test_the_same_archive_again_is_finished_while_it_is_expanded(knowing_yard: Yard) -> None:
    yard = knowing_yard
    first = yard.submit_zip(MEMBERS, dialect="ansi")
    yard.work()
    before = lints()
    again = yard.submit_zip({**MEMBERS, "renamed.sql": UGLY}, dialect="ansi")
    yard.deliver(str(yard.rows(again)[0].run_id))
    # Nothing but the expansion has run.
    assert lints() == before
    assert yard.job(again)["job_status"] == "PARTIALLY_COMPLETED"
    assert outcomes(yard, again) == {
        **outcomes(yard, first),
        "renamed.sql": ("SUCCESS", None, 2),
    }
    renamed = documents(yard, again).pop("renamed.sql")
    assert renamed == {**documents(yard, first)["ugly.sql"], "file_name": "renamed.sql"}
    assert {n: d for n, d in documents(yard, again).items() if n in MEMBERS} == documents(
        yard, first
    )


def test_a_known_file_has_a_run_like_any_other(knowing_yard: Yard) -> None:
    yard = knowing_yard
    yard.submit_zip(MEMBERS, dialect="ansi")
    yard.work()
    again = yard.submit_zip(MEMBERS, dialect="ansi")
    yard.work()
    expansion = str(yard.rows(again)[0].run_id)
    for item in yard.files(again).values():
        run = yard.run_status(item["task_id"])
        assert (run["task"], run["status"]) == ("lint.process_sql_file", "SUCCEEDED")
        assert (run["parent_id"], run["labels"]) == (expansion, {"job_id": again})
        assert run["queue"] == "lint_batch"
    # No message was sent for them, and one that comes all the same changes nothing.
    sent = {wakeup.run_id for wakeup in yard.worker_transport.sent}
    ids = [item["task_id"] for item in yard.files(again).values()]
    assert not sent & set(ids)
    seen = outcomes(yard, again)
    for task_id in ids:
        yard.deliver(task_id)
    assert outcomes(yard, again) == seen


def test_equal_files_are_linted_once(knowing_yard: Yard) -> None:
    yard = knowing_yard
    before = lints()
    members = {f"{number}.sql": UGLY for number in range(6)} | {"other.sql": GOOD}
    job_id = yard.submit_zip(members, dialect="ansi")
    yard.work()
    assert lints() == before + 2
    assert yard.job(job_id)["job_status"] == "COMPLETED"
    assert {document["file_name"] for document in documents(yard, job_id).values()} == set(members)


def test_each_content_is_linted_before_it_comes_again(knowing_yard: Yard) -> None:
    yard = knowing_yard
    large, small = UGLY * 3, GOOD
    job_id = yard.submit_zip({"a": b"", "1.sql": small, "2.sql": large, "3.sql": large})
    yard.deliver(str(yard.rows(job_id)[0].run_id))
    names = {item["task_id"]: name for name, item in yard.files(job_id).items()}
    sent = [names[wakeup.run_id] for wakeup in yard.worker_transport.sent]
    assert sent == ["2.sql", "1.sql", "3.sql"]


@pytest.mark.parametrize(
    "more", [{"dialect": "mysql"}, {"rules": ["LT01"]}, {"exclude_rules": ["LT01"]}]
)
def test_another_profile_is_another_lint(knowing_yard: Yard, more: dict[str, Any]) -> None:
    yard = knowing_yard
    yard.submit_zip({"a.sql": UGLY}, dialect="ansi")
    yard.work()
    job_id = yard.submit_zip({"a.sql": UGLY}, **{"dialect": "ansi", **more})
    yard.deliver(str(yard.rows(job_id)[0].run_id))
    assert yard.files(job_id)["a.sql"]["status"] == "PENDING"


def test_a_text_is_known_from_a_file(knowing_yard: Yard) -> None:
    yard = knowing_yard
    yard.submit(sql_content=UGLY.decode(), dialect="ansi")
    yard.work()
    before = lints()
    params = {"sql": UGLY.decode(), "dialect": "ansi", "file_name": "mine.sql"}
    run = yard.call("POST", "/api/v1/tasks/run", json={"task": "lint.sql", "params": params})
    yard.work()
    result = yard.run_status(run.json()["task_id"])["result"]
    assert lints() == before
    assert (result["file_name"], len(result["violations"])) == ("mine.sql", 2)


def test_what_could_not_be_linted_is_tried_again(
    knowing_yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = knowing_yard
    # Far less than the file needs, however fast the machine.
    quick = {"deadline_base_seconds": 1.0, "deadline_max_seconds": 1.0}
    known = yard.worker.plugin_settings["lint"]
    assert known is not None
    monkeypatch.setitem(yard.worker.plugin_settings, "lint", known.model_copy(update=quick))
    slow = b"SELECT * FROM t\n" + b"".join(b"JOIN a%d ON 1=1\n" % n for n in range(2000))
    for _ in range(2):
        job_id = yard.submit_zip({"slow.sql": slow, "good.sql": GOOD}, dialect="ansi")
        yard.work()
        assert yard.rows(job_id)[1][0].outcome == "timeout"
        assert yard.job(job_id)["job_status"] == "PARTIALLY_COMPLETED"


def test_a_crash_after_known_files_were_finished_costs_them_nothing(
    knowing_yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = knowing_yard
    yard.submit_zip(MEMBERS, dialect="ansi")
    yard.work()
    again = yard.submit_zip({**MEMBERS, "new.sql": GOOD * 2}, dialect="ansi")
    expansion = str(yard.rows(again)[0].run_id)
    with monkeypatch.context() as broken:
        broken.setattr(TaskContext, "submit_known", _crash)
        yard.deliver(expansion)
    assert yard.run_status(expansion)["status"] == "RETRYING"
    before = outcomes(yard, again)
    assert yard.job(again)["job_status"] == "PROCESSING"
    deliver_all_attempts(yard, expansion)
    yard.work()
    assert yard.job(again)["job_status"] == "PARTIALLY_COMPLETED"
    assert {n: o for n, o in outcomes(yard, again).items() if n in MEMBERS} == {
        n: o for n, o in before.items() if n in MEMBERS
    }
    for item in yard.files(again).values():
        assert yard.run_status(item["task_id"])["status"] == "SUCCEEDED"


def _crash(*_: Any, **__: Any) -> str:
    raise OSError("the worker is gone")
