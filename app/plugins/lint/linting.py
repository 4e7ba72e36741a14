"""One file from its bytes to the document that is stored, or to the reason why there is none."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from app.common.strict_json import dump_bytes, loads
from app.plugins.lint.caching import KnownLint, KnownLints
from app.plugins.lint.comparing import fingerprints
from app.plugins.lint.decoding import NotTextError, check_text, decode
from app.plugins.lint.directives import Notice, read_directives
from app.plugins.lint.metrics import count_lint
from app.plugins.lint.policies import tally_of
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Answer
from app.plugins.lint.sandbox_frames import STARVED
from app.plugins.lint.settings import LintSettings
from app.plugins.lint.wording import SYNTAX_CODES, description_of

Sandbox = Callable[[str, Profile, float], Answer]
_MAX_MESSAGE = 500
_NOT_THE_FILE = frozenset({"SIGKILL", STARVED})


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """How one file ended. `known` holds the document whenever SQLFluff gave an answer.

    `outcome` is ``linted``, or ``unparsable`` when there are syntax errors and not one
    statement of the file could be parsed as a whole. Without a document it is ``binary``,
    ``too_large``, ``missing``, ``timeout``, ``memory``, ``crashed`` or ``refused``. `message`
    is for a person and holds no SQL unless the file is unparsable. `cached` tells that the result
    was known already.
    """

    outcome: str
    message: str | None = None
    file_name: str = ""
    known: KnownLint | None = None
    seconds: float = 0.0
    cached: bool = False

    @property
    def linted(self) -> bool:
        """Whether the file counts as linted."""
        return self.outcome == "linted"

    @property
    def document(self) -> dict[str, Any] | None:
        """Return the document before it is judged, None when there is none."""
        if self.known is None:
            return None
        document: dict[str, Any] = loads(document_of(self.known, {"file_name": self.file_name}))
        return document


def document_of(known: KnownLint, head: Mapping[str, Any]) -> bytes:
    """Return the stored document of a file with a result: the head's fields, then the result's."""
    return dump_bytes(dict(head))[:-1] + b"," + known.body[1:]


@dataclass(frozen=True, slots=True)
class Linter:
    """Lints texts and files with the plugin's limits in a sandbox, unless the result is known."""

    settings: LintSettings
    sandbox: Sandbox
    known_lints: KnownLints | None = None

    def lint_bytes(
        self, data: bytes, profile: Profile, *, file_name: str, max_bytes: int
    ) -> FileReport:
        """Return the report on a file as it lies on the storage."""
        if len(data) > max_bytes:
            message = f"The file has {len(data)} bytes; at most {max_bytes} are linted."
            return FileReport(outcome="too_large", message=message)
        try:
            text, _, notices = decode(data)
        except NotTextError as error:
            return FileReport(outcome="binary", message=str(error))
        return self._find_or_lint(_Job(data, text, profile, file_name, notices))

    def lint_text(self, text: str, profile: Profile, *, file_name: str) -> FileReport:
        """Return the report on a text that came in a request."""
        data = text.encode("utf-8", errors="surrogatepass")
        if len(data) > self.settings.max_text_bytes:
            limit = self.settings.max_text_bytes
            message = f"The text has {len(data)} bytes; at most {limit} are linted."
            return FileReport(outcome="too_large", message=message)
        try:
            check_text(text)
        except NotTextError as error:
            return FileReport(outcome="binary", message=str(error))
        return self._find_or_lint(_Job(data, text.removeprefix("\ufeff"), profile, file_name))

    def _find_or_lint(self, job: "_Job") -> FileReport:
        if self.known_lints is None:
            return self._lint(job)
        fresh: list[FileReport] = []

        def lint() -> KnownLint | None:
            fresh.append(self._lint(job))
            return fresh[-1].known

        key = self.known_lints.key(job.data, job.profile)
        known = self.known_lints.find_or_lint(key, lint)
        if fresh or known is None:
            return fresh[-1]
        return report_of(known, job.file_name)

    def _lint(self, job: "_Job") -> FileReport:
        text, profile, notices = read_directives(job.text, job.profile)
        deadline = self.settings.deadline_seconds(len(text.encode("utf-8")))
        answer = self.sandbox(text, profile, deadline)
        if answer.reason in _NOT_THE_FILE:
            # Somebody else killed the child, most often the kernel for want of memory, or took the
            # processor away.
            answer = self.sandbox(text, profile, deadline)
        if answer.record is None:
            message = engine_failure(answer, deadline)
            return FileReport(outcome=answer.outcome, message=message, seconds=answer.seconds)
        violations = answer.record["violations"]
        count_lint(profile.dialect, answer.seconds, (one["code"] for one in violations))
        document = {
            **_document(profile, answer, [*job.notices, *notices]),
            "fingerprints": fingerprints(job.text, violations),
        }
        known = KnownLint(
            outcome=document["status"],
            message=None if answer.record["parsed"] else syntax_error_of(violations),
            violations=answer.record["found"],
            tally=tally_of(violations),
            body=dump_bytes(document),
        )
        report = report_of(known, job.file_name)
        return replace(report, seconds=answer.seconds, cached=False)


def report_of(known: KnownLint, file_name: str) -> FileReport:
    """Return the report on a file whose result is known."""
    return FileReport(
        outcome=known.outcome,
        message=known.message,
        file_name=file_name,
        known=known,
        cached=True,
    )


@dataclass(frozen=True, slots=True)
class _Job:
    data: bytes
    text: str
    profile: Profile
    file_name: str
    notices: list[Notice] = field(default_factory=list)


def _document(profile: Profile, answer: Answer, notices: list[Notice]) -> dict[str, Any]:
    """Return the document without what does not change what is found, as the file's name."""
    record = answer.record or {}
    notices = [*notices, *_notices_on(record)]
    return {
        "dialect": profile.dialect,
        "sqlfluff_version": answer.engine["version"],
        "status": "linted" if record["parsed"] else "unparsable",
        "violations": record["violations"],
        "statistics": {
            **record["statistics"],
            "violations": record["found"],
            "noqa_comments": record["noqa_comments"],
            "duration_ms": round(answer.seconds * 1000),
        },
        "notices": [notice.to_json() for notice in notices],
        "engine": answer.engine,
        "profile": profile_shown(profile),
    }


def profile_shown(profile: Profile) -> dict[str, Any]:
    """Return a profile as documents show it."""
    # The settings of a templater are the server's business; its name is what the caller gave.
    shown = {name: value for name, value in profile.to_wire().items() if name != "templating"}
    return {**shown, "templater": profile.templater, "digest": profile.digest()}


def _notices_on(record: dict[str, Any]) -> list[Notice]:
    notices = []
    shown, found, hidden = len(record["violations"]), record["found"], record["noqa_comments"]
    if found > shown:
        message = f"Only the first {shown} of {found} violations are listed."
        notices.append(Notice("VIOLATIONS_CUT", message))
    if hidden:
        message = f"Comments (noqa) that can hide violations: {hidden}."
        notices.append(Notice("VIOLATIONS_SUPPRESSED", message))
    broken = [v for v in record["violations"] if v["code"] in SYNTAX_CODES]
    if broken and record["parsed"]:
        line = broken[0]["start_line_no"]
        message = "A part of the file could not be parsed; most rules do not look at that part."
        notices.append(Notice("PARTLY_PARSED", message, line))
    return notices


def syntax_error_of(violations: list[dict[str, Any]]) -> str:
    """Return the first syntax error of records that have one, in words."""
    error = next(v for v in violations if v["code"] in SYNTAX_CODES)
    line, position = error["start_line_no"], error["start_line_pos"]
    description = description_of(error)
    if description.startswith("Maximum parse"):
        return f"SQLFluff's parser gave up on this file: {description}"[:_MAX_MESSAGE]
    return f"Syntax error on line {line}, position {position}: {description}"[:_MAX_MESSAGE]


def engine_failure(answer: Answer, deadline: float) -> str:
    """Return why there is no result, in words that hold no SQL."""
    messages = {
        "timeout": f"The lint did not end within {deadline:.1f} s and was stopped; "
        "split the file into smaller ones.",
        "memory": "The lint needed more memory than it may have; split the file into smaller ones.",
        "refused": f"SQLFluff does not accept the rules or options: {answer.reason}",
    }
    default = (
        f"SQLFluff broke down on this file ({answer.reason or 'no reason given'}); "
        "it may be too large, or no SQL."
    )
    return messages.get(answer.outcome, default)
