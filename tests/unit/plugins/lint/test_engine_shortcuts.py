"""The shortcuts into SQLFluff find what SQLFluff finds. In a process of their own: they stay."""

import json
import subprocess
import sys

import pytest

from app.plugins.lint import engine_shortcuts

_COMPARE = """
import json, sys
from app.plugins.lint import engine_shortcuts
from app.plugins.lint.engine import LintEngine
from app.plugins.lint.profiles import Profile
from sqlfluff.core.parser.segments.base import BaseSegment
from sqlfluff.core.parser.segments.raw import RawSegment
from sqlfluff.core.rules.crawlers import SegmentSeekerCrawler

def below(kind):
    for one in kind.__subclasses__():
        yield one
        yield from below(one)

def records():
    found = []
    for dialect in ("ansi", "postgres", "mysql", "tsql"):
        profile = Profile(dialect)
        engine.prepare(profile)
        for text in texts:
            found += [engine.lint(text, profile, 1000), engine.fix(text, profile, 1000)]
    return found

texts, engine = json.load(sys.stdin), LintEngine()
plain = records()
taken = engine_shortcuts.take_shortcuts()
same = records() == plain
names = ("is_type", "class_is_type", "class_types")
others = [
    f"{one.__name__}.{name}"
    for one in {*below(BaseSegment)} - {RawSegment}
    for name in names
    if name in vars(one)
]
print(json.dumps([taken, same, others, sum(one.get("found", 0) for one in plain)]))
"""

TEXTS = [
    "SELECT a.id,count(*) n FROM t a JOIN u AS b ON a.id=b.id where a.x IN (SELECT x FROM v)\n",
    "WITH c AS (SELECT 1 AS one), d as (\n  select one FROM c\n)\nSELECT DISTINCT one FROM d ;\n",
    "SELECT 1\n;\nselec broken  from\n;\nSELECT   CASE WHEN a THEN 1 ELSE NULL END FROM t --noqa\n",
    "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y');\nUPDATE t SET a = a+1 where b=2;\n",
    "CREATE TABLE t (\n\tid INT primary key,\n    name varchar(10) NOT NULL DEFAULT ''\n)",
    "SELECT " + ", ".join(f"column_number_{n} + {n} AS c{n}" for n in range(30)) + " FROM t\n\n\n",
    "SELECT (1, (2, 3) FROM t\n",
    "SELECT {{ x }} FROM t /* {# a comment #} */ WHERE a != b AND c <> d\n",
    "",
]


def test_they_find_what_sqlfluff_finds() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _COMPARE],
        input=json.dumps(TEXTS),
        capture_output=True,
        text=True,
        check=True,
    )
    taken, same, others, found = json.loads(done.stdout.splitlines()[-1])
    assert taken, "SQLFluff is another version: compare its functions with ours, then name it."
    assert same
    assert found > 100
    # No other segment answers in its own way.
    assert others == []


def test_another_version_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_shortcuts, "version", lambda _name: "4.6.0")
    monkeypatch.setattr(engine_shortcuts, "setattr", _refuse, raising=False)
    assert not engine_shortcuts.take_shortcuts()


def _refuse(*_arguments: object) -> None:
    raise AssertionError("nothing is replaced")
