"""What is kept of lints, over a shared cache that can be empty, gone or full of rubbish."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random
from typing import Any

import pytest

from app.plugins.lint import caching
from app.plugins.lint.caching import KnownLint, KnownLints, forget_known_lints
from app.plugins.lint.profiles import Profile
from app.plugins.lint.settings import LintSettings

ANSI = Profile("ansi")
KNOWN = KnownLint("linted", None, 2, {"LT01": 2}, b'{"dialect":"ansi","violations":[1,2]}')


class Shared:
    """A cache in a dictionary; one that is gone keeps nothing."""

    def __init__(self, *, gone: bool = False) -> None:
        self.values: dict[str, object] = {}
        self.gone = gone
        self.asked: list[str] = []

    def get_many(self, keys: Sequence[str]) -> dict[str, object]:
        self.asked += keys
        return {key: self.values[key] for key in keys if key in self.values and not self.gone}

    def set(self, key: str, value: object, ttl_seconds: float | None = None) -> bool:
        assert ttl_seconds
        if not self.gone:
            self.values[key] = value
        return not self.gone

    def get_or_load(
        self, key: str, loader: Callable[[], object], ttl_seconds: float | None = None
    ) -> object:
        if self.gone or key not in self.values:
            value = loader()
            if not self.gone:
                self.values[key] = value
            return value
        return self.values[key]


@pytest.fixture(autouse=True)
def no_twin() -> Iterator[None]:
    forget_known_lints()
    yield
    forget_known_lints()


def lints(shared: Shared, *, in_turn: bool = False, **settings: Any) -> KnownLints:
    return KnownLints(shared, LintSettings(**settings), in_turn=in_turn)


def never() -> KnownLint:
    raise AssertionError("it is known")


def test_a_result_comes_back_from_what_the_cache_keeps() -> None:
    failed = KnownLint("unparsable", "Syntax error on line 1: é", 1, {"PRS": 1}, b"{}")
    for known in (KNOWN, failed):
        assert KnownLint.from_cache(known.to_cache()) == known


@pytest.mark.parametrize(
    "value",
    [
        *(None, 7, "text", [], {}, {"body": None}, {"body": "no base64!"}, {"body": "AAAA"}),
        {k: v for k, v in KNOWN.to_cache().items() if k != "violations"},
        {**KNOWN.to_cache(), "tally": None},
        {**KNOWN.to_cache(), "tally": ["LT01"]},
        {**KNOWN.to_cache(), "tally": {"LT01": "many"}},
        {**KNOWN.to_cache(), "body": KNOWN.to_cache()["body"][:-8]},
    ],
    ids=range(13),
)
def test_rubbish_is_as_good_as_nothing(value: object) -> None:
    assert KnownLint.from_cache(value) is None
    shared = Shared()
    for in_turn in (False, True):
        known = lints(shared, in_turn=in_turn)
        shared.values["key"] = value
        forget_known_lints()
        assert known.find(["key"]) == {}
        assert known.find_or_lint("key", lambda: KNOWN) == KNOWN


def test_a_body_that_would_fill_the_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caching, "_MAX_BODY_BYTES", 1000)
    bomb = KnownLint("linted", None, 0, {}, b" " * 1001)
    assert KnownLint.from_cache(bomb.to_cache()) is None


@pytest.mark.parametrize("in_turn", [False, True])
def test_a_lint_is_kept_for_every_process_and_for_this_one(*, in_turn: bool) -> None:
    shared = Shared()
    assert lints(shared, in_turn=in_turn).find_or_lint("key", lambda: KNOWN) == KNOWN
    assert list(shared.values) == ["key"]
    # The shared cache forgets everything or is gone: this process still knows.
    shared.values.clear()
    shared.gone = True
    assert lints(shared, in_turn=in_turn).find_or_lint("key", never) == KNOWN
    assert lints(shared, in_turn=in_turn).find(["key", "other"]) == {"key": KNOWN}


@pytest.mark.parametrize("in_turn", [False, True])
def test_what_another_process_linted_is_known_here(*, in_turn: bool) -> None:
    shared = Shared()
    lints(shared, in_turn=in_turn).find_or_lint("key", lambda: KNOWN)
    forget_known_lints()
    shared.asked.clear()
    assert lints(shared, in_turn=in_turn).find(["other", "key", "key"]) == {"key": KNOWN}
    assert shared.asked == ["other", "key"]
    assert lints(shared, in_turn=in_turn).find_or_lint("key", never) == KNOWN


@pytest.mark.parametrize("in_turn", [False, True])
def test_no_result_is_not_kept(*, in_turn: bool) -> None:
    shared = Shared()
    for _ in range(2):
        assert lints(shared, in_turn=in_turn).find_or_lint("key", lambda: None) is None
    assert shared.values == {}
    assert lints(shared, in_turn=in_turn).find_or_lint("key", lambda: KNOWN) == KNOWN


def test_nothing_is_kept_when_the_settings_say_so() -> None:
    shared = Shared()
    known = lints(shared, cache_seconds=0)
    assert known.find_or_lint("key", lambda: KNOWN) == KNOWN
    assert known.find(["key"]) == {}
    assert shared.values == {}
    assert not shared.asked


def test_this_process_keeps_what_it_met_last_within_its_bytes() -> None:
    shared = Shared(gone=True)
    known = lints(shared)
    packed = [KnownLint("linted", None, 0, {}, Random(n).randbytes(600_000)) for n in range(20)]
    room = caching._TWIN_BYTES // len(packed[0].to_cache()["body"])  # noqa: SLF001 - its own size
    for number in range(room + 1):
        known.find_or_lint(str(number), partial(packed.__getitem__, number))
    assert known.find(["0", "1", str(room)]).keys() == {"1", str(room)}


def test_the_key_depends_on_all_that_decides_the_result() -> None:
    base = lints(Shared()).key(b"SELECT 1", ANSI)
    assert base == lints(Shared()).key(b"SELECT 1", Profile("ansi"))
    others = {
        lints(Shared()).key(b"SELECT 2", ANSI),
        lints(Shared()).key(b"SELECT 1", Profile("mysql")),
        lints(Shared()).key(b"SELECT 1", Profile("ansi", rules=("LT01",))),
        lints(Shared(), allow_noqa=False).key(b"SELECT 1", ANSI),
        lints(Shared(), max_violations=1).key(b"SELECT 1", ANSI),
    }
    assert len(others | {base}) == 6


def test_another_engine_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = lints(Shared()).key(b"SELECT 1", ANSI)
    facts = {"name": "sqlfluff", "version": "9.9.9", "rust": True}
    monkeypatch.setattr(caching, "engine_facts", lambda: facts)
    assert lints(Shared()).key(b"SELECT 1", ANSI) != before
