"""What `lint.fix_sql` does: a text as SQLFluff's fixes leave it, proved to parse all the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from app.plugins.lint.decoding import NotTextError, check_text
from app.plugins.lint.diffing import BOM
from app.plugins.lint.directives import Notice, read_directives, restore_directives
from app.plugins.lint.errors import LintFixRefused, NotSqlText, lint_failure
from app.plugins.lint.linting import engine_failure, profile_shown, syntax_error_of
from app.plugins.lint.options import LintOptions
from app.plugins.lint.policies import tally_of
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Answer
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.wording import SYNTAX_CODES

# Fixes a text in a sandbox, within so many seconds.
FixSandbox = Callable[[str, Profile, float], Answer]


@dataclass(frozen=True, slots=True)
class Fixer:
    """Fixes texts with the plugin's limits."""

    settings: LintSettings
    sandbox: FixSandbox

    def fix(self, text: str, options: LintOptions, file_name: str) -> dict[str, Any]:
        """Return the document of a fixed text.

        NotSqlText, LintTimeout and LintFailed are as for a lint; LintFixRefused when the text has
        syntax errors, or would have some after the fix.
        """
        size = len(text.encode("utf-8", "surrogatepass"))
        if size > self.settings.max_fix_bytes:
            limit = self.settings.max_fix_bytes
            raise NotSqlText(f"The text has {size} bytes; at most {limit} are fixed.")
        try:
            check_text(text)
        except NotTextError as error:
            raise NotSqlText(str(error)) from None
        mark = BOM if text.startswith(BOM) else ""
        hidden, profile, notices = read_directives(text.removeprefix(BOM), options.profile)
        deadline = self.settings.fix_deadline_seconds(size)
        answer = self.sandbox(mark + hidden, profile, deadline)
        if answer.record is None:
            raise lint_failure(answer.outcome, engine_failure(answer, deadline))
        _require_parsed(answer.record)
        return _document(text, answer, profile, notices, options, file_name)


def _require_parsed(record: dict[str, Any]) -> None:
    """Raise LintFixRefused when the text could not be parsed before, or cannot be any more."""
    if "after" not in record:
        reason = syntax_error_of(record["before"]["violations"])
        message = f"A text that SQLFluff cannot read is not fixed. {reason}"
        raise LintFixRefused(message)
    broken = [one for one in record["after"]["violations"] if one["code"] in SYNTAX_CODES]
    if broken:
        message = (
            "SQLFluff's fixes would leave a text that it cannot read any more, so nothing was "
            f"changed. {syntax_error_of(broken)}"
        )
        raise LintFixRefused(message)


def _document(
    text: str,
    answer: Answer,
    profile: Profile,
    notices: list[Notice],
    options: LintOptions,
    file_name: str,
) -> dict[str, Any]:
    record = answer.record or {}
    fixed = restore_directives(record["fixed"], text)
    diff = restore_directives(record["diff"], text)
    if fixed is None or diff is None:
        raise LintFixRefused("The text imitates what stands for its directives while it is fixed.")
    before, after = record["before"], record["after"]
    counts = options.policy.count(tally_of(after["violations"]))
    names = f"--- a/{file_name}\n+++ b/{file_name}\n"
    return {
        "file_name": file_name,
        "dialect": profile.dialect,
        "changed": fixed != text,
        "diff": names + diff if diff else "",
        "fixed_sql": fixed,
        "violations_before": before["found"],
        "violations_after": after["found"],
        "remaining": after["violations"],
        "passed": options.policy.passes(counts),
        "counts": counts._asdict(),
        "notices": [notice.to_json() for notice in notices],
        "engine": answer.engine,
        "profile": profile_shown(profile),
        "duration_ms": round(answer.seconds * 1000),
    }
