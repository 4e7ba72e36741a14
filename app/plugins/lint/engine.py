"""SQLFluff, guarded. Only the sandbox imports this module's heavy half."""

import contextlib
import gc
import importlib
import importlib.util
import json
import logging
import pkgutil
from collections import OrderedDict
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from app.plugins.lint.diffing import BOM, unified_diff, with_line_ends_of
from app.plugins.lint.engine_shortcuts import take_shortcuts
from app.plugins.lint.profiles import RAW, Profile
from app.plugins.lint.wording import SYNTAX_CODES

if TYPE_CHECKING:
    from sqlfluff.core import Linter
    from sqlfluff.core.linter import LintedFile

_MAX_PROFILES = 32
# SQL that wakes up code of the parser and of every rule family before the first user's file.
_WARM_UP = """SELECT a.id, count(*) AS n, CASE WHEN a.x = 1 THEN 'y' ELSE NULL END AS z
FROM t AS a JOIN u AS b ON a.id = b.id WHERE a.x IN (SELECT x FROM v) AND b.y <> 2
GROUP BY a.id ORDER BY n;

INSERT INTO t (id, x) VALUES (1, 'a'), (2, 'b');
UPDATE t SET x = x+1 where id=2 ;
selec broken  from
"""
# And code of the template engine, its own errors included.
_WARM_UP_TEMPLATE = """{% macro m(x) %}{{ x }}{% endmacro %}{% set a = [1, 2] %}
SELECT {{ m('a') }}, :b, $c, ?, {% for x in a %}{{ x | upper }}{% if not loop.last %}, {% endif %}
{% endfor %} FROM t {# comment #} {{ missing.field }} {% include 'nothing' %}
"""


class ProfileRefusedError(Exception):
    """SQLFluff cannot work with the profile; the message names what it did not accept."""


class LintEngine:
    """Warm linters, one for each profile, of which the most recently used are kept."""

    def __init__(self, *, allow_noqa: bool = True) -> None:
        self._allow_noqa = allow_noqa
        self._linters: OrderedDict[Profile, Linter] = OrderedDict()

    def knows(self, profile: Profile) -> bool:
        """Return whether the profile's linter is ready, and mark it as used."""
        if profile not in self._linters:
            return False
        self._linters.move_to_end(profile)
        return True

    def prepare(self, profile: Profile) -> None:
        """Build and warm the profile's linter; ProfileRefusedError when SQLFluff refuses it."""
        if self.knows(profile):
            return
        linter = _build_linter(profile, allow_noqa=self._allow_noqa)
        linter.lint_string(_WARM_UP, fname="warm-up.sql")
        if not self._linters:
            # The code of fixes as well, once, with the part that can be parsed.
            linter.lint_string(_WARM_UP.rpartition("selec")[0], fname="warm-up.sql", fix=True)
        if profile.templating:
            linter.lint_string(_WARM_UP_TEMPLATE, fname="warm-up.sql")
        self._linters[profile] = linter
        while len(self._linters) > _MAX_PROFILES:
            self._linters.popitem(last=False)

    def lint(self, text: str, profile: Profile, max_violations: int) -> dict[str, Any]:
        """Return SQLFluff's own record of a text in a profile that was prepared.

        Keys: `violations` (at most `max_violations`, ordered by position), `found` (how many
        there were), `noqa_comments` (how many hide violations), `statistics`, and `parsed`: False
        when there are syntax errors and no statement could be parsed as a whole.
        """
        with _without_sweeps():
            linted = self._linters[profile].lint_string(text, fname="input.sql")
            return _record(linted, max_violations)

    def fix(self, text: str, profile: Profile, max_violations: int) -> dict[str, Any]:
        """Return what SQLFluff's own fixes make of a text in a profile that was prepared.

        Keys: `before` and `after`, records as of `lint`, `fixed`, the text, and `diff`, a unified
        diff without names. A text with syntax errors is not fixed: then there is only `before`.
        """
        mark = BOM if text.startswith(BOM) else ""
        bare = text.removeprefix(BOM)
        with _without_sweeps():
            linter = self._linters[profile]
            linted = linter.lint_string(bare, fname="input.sql", fix=True)
            before = _record(linted, max_violations)
            if any(violation.rule_code() in SYNTAX_CODES for violation in linted.violations):
                return {"before": before}
            fixed = with_line_ends_of(bare, linted.fix_string()[0])
            again = linter.lint_string(fixed, fname="input.sql")
            return {
                "before": before,
                "after": _record(again, max_violations),
                "fixed": mark + fixed,
                "diff": unified_diff(text, mark + fixed),
            }


@contextlib.contextmanager
def _without_sweeps() -> Iterator[None]:
    # Parse trees are full of cycles; one sweep after the file is cheaper than many within.
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def load_library() -> None:
    """Import all of SQLFluff's core and rules, so that linting imports nothing later, and make it
    faster.
    """
    logging.getLogger("sqlfluff").setLevel(logging.WARNING)
    # The progress bar's monitor would be a second thread in a process that forks.
    importlib.import_module("tqdm").tqdm.monitor_interval = 0
    for name in ("sqlfluff.core", "sqlfluff.utils", "sqlfluff.rules"):
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            if not module.name.endswith(".testing") and ".testing." not in module.name:
                importlib.import_module(module.name)
    for name in ("encodings.idna", "unicodedata", "difflib", "decimal", "tracemalloc"):
        importlib.import_module(name)
    take_shortcuts()


@cache
def engine_facts() -> dict[str, Any]:
    """Return the engine's name and version, and whether its Rust parser is in use."""
    return {
        "name": "sqlfluff",
        "version": version("sqlfluff"),
        "rust": importlib.util.find_spec("sqlfluffrs") is not None,
    }


def _build_linter(profile: Profile, *, allow_noqa: bool) -> "Linter":
    from sqlfluff.core import FluffConfig, Linter, SQLFluffUserError  # noqa: PLC0415 - heavy

    class GuardedConfig(FluffConfig):
        """Reads nothing from the text that is linted."""

        def process_raw_file_for_config(self, raw_str: str, fname: str) -> None:
            """Obey no directive: one could import Python files or lift the limits."""

    class WarmLinter(Linter):
        """Keeps its rules, which do not change between files, instead of building them again."""

        _pack: Any = None

        def get_rulepack(self, config: FluffConfig | None = None) -> Any:
            """Return the rules of the linter's own profile."""
            del config  # The guarded one of this linter: no file can bring another.
            if self._pack is None:
                self._pack = super().get_rulepack(self.config)
            return self._pack

    try:
        config = GuardedConfig(
            configs=_nested(profile),
            overrides={
                "dialect": profile.dialect,
                "templater": json.loads(profile.templating)["kind"] if profile.templating else RAW,
                "rules": ",".join(profile.rules) if profile.rules else None,
                "exclude_rules": ",".join(profile.exclude_rules) or None,
                "disable_noqa": profile.strict or not allow_noqa,
                # The deadline and the size limit are the service's own.
                "large_file_skip_byte_limit": 0,
            },
            ignore_local_config=True,
        )
        return WarmLinter(config=config)
    except (SQLFluffUserError, KeyError, ValueError) as error:
        raise ProfileRefusedError(str(error)) from error


def _nested(profile: Profile) -> dict[str, Any]:
    configs: dict[str, Any] = {"core": {}}
    for key, value in profile.options:
        *sections, name = key.split(":")
        place = configs
        for section in sections or ["core"]:
            place = place.setdefault(section, {})
        place[name] = value
    if profile.templating:
        configs["templater"] = _templater(json.loads(profile.templating))
    return configs


def _templater(told: dict[str, Any]) -> dict[str, Any]:
    """Return SQLFluff's section; it names no path, so nothing is loaded from a disk."""
    context = dict(told["context"])
    if told["kind"] == "placeholder":
        return {"placeholder": {"param_style": told["param_style"], **context}}
    return {"jinja": {"context": context, "apply_dbt_builtins": False}}


def _record(linted: "LintedFile", max_violations: int) -> dict[str, Any]:
    violations = linted.get_violations(filter_warning=False)
    shown = sorted(
        (violation.to_dict() for violation in violations),
        key=lambda v: (v["start_line_no"], v["start_line_pos"], v["code"]),
    )
    tree = linted.tree
    source = linted.templated_file.source_str if linted.templated_file else ""
    templated = linted.templated_file.templated_str if linted.templated_file else ""
    return {
        "violations": shown[:max_violations],
        "found": len(shown),
        "noqa_comments": _noqa_comments(linted),
        "statistics": {
            "source_chars": len(source),
            "templated_chars": len(templated),
            "segments": tree.count_segments(raw_only=False) if tree else 0,
            "raw_segments": tree.count_segments(raw_only=True) if tree else 0,
        },
        "parsed": _any_statement_parsed(linted),
    }


def _noqa_comments(linted: "LintedFile") -> int:
    # SQLFluff drops what they hide while it lints, so only the comments can be counted.
    return len(getattr(linted.ignore_mask, "_ignore_list", ()))


def _any_statement_parsed(linted: "LintedFile") -> bool:
    broken = any(violation.rule_code() in SYNTAX_CODES for violation in linted.violations)
    if not broken:
        return True
    if linted.tree is None:
        return False
    return any(
        next(statement.recursive_crawl("unparsable"), None) is None
        for statement in linted.tree.recursive_crawl("statement", recurse_into=False)
    )
