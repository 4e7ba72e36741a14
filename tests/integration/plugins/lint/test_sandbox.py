"""The real sandbox: attacks, deadlines, crashes, and that the next lint is fine."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.plugins.lint import sandbox as sandbox_module
from app.plugins.lint.directives import read_directives
from app.plugins.lint.linting import Linter
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import (
    Answer,
    SandboxBrokenError,
    Sandboxes,
    SandboxLimits,
    close_sandboxes,
)
from app.plugins.lint.sandbox import sandboxes as shared_sandboxes
from app.plugins.lint.sandbox_frames import STARVED
from app.plugins.lint.settings import LintSettings
from tests.unit.plugins.lint.attacks import ATTACKS

ANSI = Profile("ansi")
FINE = "SELECT 1\n"


@pytest.fixture
def own() -> Iterator[Sandboxes]:
    """Sandboxes that a test may break."""
    opened = Sandboxes(SandboxLimits(processes=1))
    yield opened
    opened.close()


def _children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _child_of(pid: int) -> int:
    # A used-up child is replaced behind the answer: for a moment there is none.
    deadline = time.monotonic() + 10
    while len(children := _children_of(pid)) != 1 and time.monotonic() < deadline:
        time.sleep(0.01)
    (child,) = children
    return child


def _is_gone(pid: int) -> bool:
    for _ in range(200):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def _assert_fine(answer: Answer) -> None:
    assert answer.outcome == "linted"
    assert answer.record is not None
    assert answer.record["parsed"]


def test_a_text_is_linted_and_the_child_is_kept(own: Sandboxes) -> None:
    first = own.lint("select a,b from c\n", ANSI, 20)
    assert first.outcome == "linted"
    assert first.record is not None
    assert {violation["code"] for violation in first.record["violations"]} == {"LT01", "LT09"}
    assert first.engine["name"] == "sqlfluff"
    child = _child_of(own.pids()[0])
    _assert_fine(own.lint(FINE, ANSI, 20))
    assert _child_of(own.pids()[0]) == child


def test_a_new_profile_is_prepared_on_demand(own: Sandboxes) -> None:
    text = "SELECT `a` FROM `b`\n"
    ansi = own.lint(text, ANSI, 20)
    mysql = own.lint(text, Profile("mysql", rules=("PRS", "LT01")), 20)
    assert ansi.record is not None
    assert mysql.record is not None
    assert not ansi.record["parsed"]
    assert mysql.record["parsed"]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_leaves_a_mark(linter: Linter, trap: Path, name: str) -> None:
    text = ATTACKS[name].format(trap=trap) + FINE
    report = linter.lint_text(text, ANSI, file_name="attack.sql")
    assert report.document is not None
    assert not (trap.parent / "PWNED").exists()
    assert "the-secret-of-the-host" not in str(report.document)
    codes = {notice["code"] for notice in report.document["notices"]}
    assert "DIRECTIVE_IGNORED" in codes


PATHOLOGICAL = {
    "nested brackets": "SELECT " + "(" * 20_000,
    "a long chain": "SELECT 1 WHERE " + " AND ".join(["a = 1"] * 20_000),
    "many joins": "SELECT * FROM t\n" + "".join(f"JOIN t{n} ON t.x = t{n}.x\n" for n in range(400)),
    "an open quote": "SELECT '" + "x y" * 60_000,
    "garbage": "?!$ " * 5_000,
    "empty lines": "\n" * 20_000,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_pathological_input_ends_and_the_next_lint_is_fine(sandboxes: Sandboxes, name: str) -> None:
    answer = sandboxes.lint(PATHOLOGICAL[name], ANSI, 0.5)
    assert answer.outcome in {"linted", "timeout", "crashed", "memory"}
    _assert_fine(sandboxes.lint(FINE, ANSI, 20))


def _niceness(pid: int) -> int:
    return os.getpriority(os.PRIO_PROCESS, pid)


def test_a_nice_lint_has_a_child_of_its_own(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    zygote = own.pids()[0]
    first = _child_of(zygote)
    _assert_fine(own.lint(FINE, ANSI, 20, niceness=3))
    (nice,) = set(_children_of(zygote)) - {first}
    assert (_niceness(first), _niceness(nice)) == (_niceness(zygote), _niceness(zygote) + 3)
    # A niceness counts only within a session, so the child has one, which is as nice.
    assert (os.getsid(first), os.getsid(nice)) == (os.getsid(zygote), nice)
    group = Path(f"/proc/{nice}/autogroup")
    if group.exists():
        assert group.read_text(encoding="ascii").split()[-1] == "3"
    # Each goes on to be used; the end of one is not the end of the other.
    assert own.lint(PATHOLOGICAL["many joins"], ANSI, 0.2, niceness=3).outcome == "timeout"
    _assert_fine(own.lint(FINE, ANSI, 20))
    assert first in _children_of(zygote)
    assert _is_gone(nice)


def test_a_time_out_tells_whether_the_file_had_a_processor(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    child = _child_of(own.pids()[0])
    os.kill(child, signal.SIGSTOP)
    answer = own.lint(FINE, ANSI, 0.3)
    assert (answer.outcome, answer.reason) == ("timeout", STARVED)
    _assert_fine(own.lint(FINE, ANSI, 20))


def test_the_deadline_ends_the_child_and_nothing_else(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    zygote = own.pids()[0]
    child = _child_of(zygote)
    answer = own.lint(PATHOLOGICAL["many joins"], ANSI, 0.2)
    assert (answer.outcome, answer.record) == ("timeout", None)
    assert _is_gone(child)
    _assert_fine(own.lint(FINE, ANSI, 20))
    assert own.pids() == [zygote]


def test_a_child_that_is_killed_costs_its_file_only(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    os.kill(_child_of(own.pids()[0]), signal.SIGKILL)
    answer = own.lint(FINE, ANSI, 20)
    assert (answer.outcome, answer.reason) == ("crashed", "SIGKILL")
    _assert_fine(own.lint(FINE, ANSI, 20))


def test_a_zygote_that_died_is_replaced(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    zygote = own.pids()[0]
    child = _child_of(zygote)
    os.kill(zygote, signal.SIGKILL)
    _assert_fine(own.lint(FINE, ANSI, 20))
    assert own.pids() != [zygote]
    assert _is_gone(child)


def test_a_busy_child_dies_with_its_zygote(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    answers: list[Answer] = []
    text = "SELECT * FROM t\n" + "".join(f"JOIN t{n} ON t.x = t{n}.x\n" for n in range(1500))
    busy = threading.Thread(target=lambda: answers.append(own.lint(text, ANSI, 60)))
    zygote, child = own.pids()[0], _child_of(own.pids()[0])
    busy.start()
    time.sleep(0.5)
    os.kill(zygote, signal.SIGKILL)
    assert _is_gone(child)
    # The text is tried once more in a new sandbox; that one is ended, too.
    while own.pids() in ([], [zygote]) or not _children_of(own.pids()[0]):
        time.sleep(0.05)
    os.kill(own.pids()[0], signal.SIGKILL)
    busy.join(60)
    assert [(answer.outcome, answer.reason) for answer in answers] == [
        ("crashed", "the sandbox ended")
    ]


def test_memory_is_limited() -> None:
    # SQLFluff itself takes about 120 MiB of address space; the text asks for more than the rest.
    small = Sandboxes(SandboxLimits(processes=1, memory_bytes=180 * 2**20))
    try:
        answer = small.lint("SELECT " + ", ".join(["a"] * 100_000) + " FROM b\n", ANSI, 25)
        assert answer.outcome in {"memory", "crashed"}
        _assert_fine(small.lint(FINE, ANSI, 20))
    finally:
        small.close()


@pytest.mark.parametrize("limit", [{"max_files": 2}, {"max_resident_bytes": 1}])
def test_a_used_up_child_is_renewed(limit: dict[str, int]) -> None:
    opened = Sandboxes(SandboxLimits(processes=1, **limit))  # type: ignore[arg-type]  # int fields
    try:
        children = []
        for _ in range(3):
            _assert_fine(opened.lint(FINE, ANSI, 20))
            children.append(_child_of(opened.pids()[0]))
        assert len(set(children)) > 1
    finally:
        opened.close()


def test_close_ends_zygote_and_child(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    zygote = own.pids()[0]
    child = _child_of(zygote)
    own.close()
    assert _is_gone(zygote)
    assert _is_gone(child)
    assert own.pids() == []
    _assert_fine(own.lint(FINE, ANSI, 20))


def test_threads_share_the_sandboxes_up_to_the_limit() -> None:
    opened = Sandboxes(SandboxLimits(processes=2))
    answers: list[Answer] = []

    def lint() -> None:
        answers.append(opened.lint("SELECT a,b FROM c\n" * 20, ANSI, 30))

    threads = [threading.Thread(target=lint) for _ in range(5)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [answer.outcome for answer in answers] == ["linted"] * 5
        assert 1 <= len(opened.pids()) <= 2
    finally:
        opened.close()


def test_an_interrupted_lint_does_not_leave_its_answer_to_the_next(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))

    class TimeLimitError(Exception):
        """What a worker's soft time limit raises in the middle of anything."""

    def interrupt(_signal: int, _frame: object) -> None:
        raise TimeLimitError

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(TimeLimitError):
            own.lint(PATHOLOGICAL["many joins"], ANSI, 20)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    answer = own.lint("select a,b from c\n", ANSI, 20)
    assert answer.record is not None
    assert answer.record["statistics"]["source_chars"] == len("select a,b from c\n")


def test_a_forked_copy_starts_its_own_and_leaves_the_original_alone(own: Sandboxes) -> None:
    _assert_fine(own.lint(FINE, ANSI, 20))
    code = """
import os
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import SandboxLimits, close_sandboxes, sandboxes
shared = sandboxes(SandboxLimits(processes=1))
assert shared.lint("SELECT 1\\n", Profile("ansi"), 20).outcome == "linted"
first = shared.pids()
pid = os.fork()
if pid == 0:
    fine = shared.pids() == [] and shared.lint("SELECT 1\\n", Profile("ansi"), 20).record
    fine = fine and shared.pids() != first
    close_sandboxes()
    os._exit(0 if fine else 1)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert shared.pids() == first
assert shared.lint("SELECT 1\\n", Profile("ansi"), 20).outcome == "linted"
assert shared.pids() == first
print(first[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert _is_gone(int(done.stdout))


def test_a_worker_that_is_killed_leaves_no_process_behind() -> None:
    code = """
import sys, time
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Sandboxes, SandboxLimits
opened = Sandboxes(SandboxLimits(processes=1))
opened.lint("SELECT 1\\n", Profile("ansi"), 20)
print(opened.pids()[0], flush=True)
opened.lint("SELECT * FROM t\\n" + "".join(f"JOIN t{n} ON t.x = t{n}.x\\n" for n in range(900)),
            Profile("ansi"), 60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        zygote = int(worker.stdout.readline())
        child = _child_of(zygote)
        worker.kill()
    assert _is_gone(zygote)
    assert _is_gone(child)


def test_a_sandbox_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    for script, words in (
        ("raise SystemExit(3)", "ended at once"),
        ("import time; time.sleep(60)", "no answer in time"),
    ):
        monkeypatch.setattr(sandbox_module, "_START", script)
        broken = Sandboxes(SandboxLimits(processes=1, start_seconds=0.5))
        with pytest.raises(SandboxBrokenError, match=words):
            broken.lint(FINE, ANSI, 5)
        assert broken.pids() == []


def test_a_default_profile_that_is_refused_is_told() -> None:
    broken = Sandboxes(SandboxLimits(processes=1, dialect="nope"))
    with pytest.raises(SandboxBrokenError, match=r"nope|dialect"):
        broken.lint(FINE, ANSI, 5)


def test_a_refused_profile_costs_its_file_only(own: Sandboxes) -> None:
    answer = own.lint(FINE, Profile("nope"), 20)
    assert (answer.outcome, answer.record) == ("refused", None)
    assert answer.reason
    _assert_fine(own.lint(FINE, ANSI, 20))


def test_one_process_has_one_set_of_sandboxes_for_equal_limits() -> None:
    first = shared_sandboxes(SandboxLimits(processes=1, max_files=77))
    assert shared_sandboxes(SandboxLimits(processes=1, max_files=77)) is first
    _assert_fine(first.lint(FINE, ANSI, 20))
    (zygote,) = first.pids()
    close_sandboxes()
    assert _is_gone(zygote)


def _templated(kind: str, **more: object) -> Profile:
    told = {"mine": {"kind": kind, **more}}
    templating = LintSettings.model_validate({"templaters": told}).templating("mine")
    return Profile("ansi", templating=templating)


def test_a_templater_of_the_settings_renders(sandboxes: Sandboxes) -> None:
    jinja = _templated("jinja", context={"table": "users"})
    answer = sandboxes.lint("SELECT a FROM {{ table }}{% if false %} WHERE{% endif %}\n", jinja, 20)
    _assert_fine(answer)
    placeholder = _templated("placeholder", param_style="colon", context={"id": 7})
    _assert_fine(sandboxes.lint("SELECT a FROM b WHERE c = :id\n", placeholder, 20))
    # What is plain stays plain.
    plain = sandboxes.lint("SELECT a FROM {{ table }}\n", ANSI, 20)
    assert plain.record is not None
    assert not plain.record["parsed"]


@pytest.mark.parametrize(
    "text",
    [
        "{% include 'secret.sql' %}",
        "{% import 'attack' as a %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.popen('touch PWNED') }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}x{% endfor %}{% endfor %}",
        "{{ 'a' * 10 ** 9 * 9 }}",
        "{{ range(100001) }}",
    ],
)
def test_a_template_reaches_nothing(sandboxes: Sandboxes, trap: Path, text: str) -> None:
    directives = f"-- sqlfluff:templater:jinja:loader_search_path:{trap}\n"
    read = read_directives(directives + f"SELECT 1 -- {text}\n", _templated("jinja"))
    answer = sandboxes.lint(read[0], read[1], 2)
    assert answer.outcome in {"linted", "timeout", "memory", "crashed"}
    assert "the-secret-of-the-host" not in str(answer.record)
    assert not (trap.parent / "PWNED").exists()
    _assert_fine(sandboxes.lint(FINE, ANSI, 20))
