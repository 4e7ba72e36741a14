"""One file from its bytes to the document that is stored, or to the reason why there is none."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from app.plugins.lint.decoding import NotTextError, check_text, decode
from app.plugins.lint.directives import Notice, read_directives
from app.plugins.lint.profiles import Profile
from app.plugins.lint.sandbox import Answer
from app.plugins.lint.settings import LintSettings

Sandbox = Callable[[str, Profile, float], Answer]
_SYNTAX_CODES = frozenset({"PRS", "LXR", "TMP"})
_MAX_MESSAGE = 500
_KILLED = "SIGKILL"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReport:
    """How one file ended. `document` is there whenever SQLFluff gave an answer.

    `outcome` is ``linted``, or ``unparsable`` when there are syntax errors and not one
    statement of the file could be parsed as a whole. Without a document it is ``binary``,
    ``too_large``, ``missing``, ``timeout``, ``memory``, ``crashed`` or ``refused``. `message`
    is for a person and holds no SQL unless the file is unparsable.
    """

    outcome: str
    message: str | None = None
    document: dict[str, Any] | None = None
    seconds: float = 0.0

    @property
    def linted(self) -> bool:
        """Whether the file counts as linted."""
        return self.outcome == "linted"


@dataclass(frozen=True, slots=True)
class Linter:
    """Lints texts and files with the plugin's limits in a sandbox."""

    settings: LintSettings
    sandbox: Sandbox

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
        return self._lint(_Job(text, profile, file_name, notices))

    def lint_text(self, text: str, profile: Profile, *, file_name: str) -> FileReport:
        """Return the report on a text that came in a request."""
        size = len(text.encode("utf-8", errors="surrogatepass"))
        if size > self.settings.max_text_bytes:
            limit = self.settings.max_text_bytes
            message = f"The text has {size} bytes; at most {limit} are linted."
            return FileReport(outcome="too_large", message=message)
        try:
            check_text(text)
        except NotTextError as error:
            return FileReport(outcome="binary", message=str(error))
        return self._lint(_Job(text.removeprefix("\ufeff"), profile, file_name))

    def _lint(self, job: "_Job") -> FileReport:
        text, profile, notices = read_directives(job.text, job.profile)
        deadline = self.settings.deadline_seconds(len(text.encode("utf-8")))
        answer = self.sandbox(text, profile, deadline)
        if answer.reason == _KILLED:
            # Somebody else killed the child, most often the kernel for want of memory.
            answer = self.sandbox(text, profile, deadline)
        if answer.record is None:
            message = _failure_message(answer, deadline)
            return FileReport(outcome=answer.outcome, message=message, seconds=answer.seconds)
        document = _document(job, profile, answer, [*job.notices, *notices])
        syntax_error = None if answer.record["parsed"] else _syntax_error(document["violations"])
        return FileReport(
            outcome=document["status"],
            message=syntax_error,
            document=document,
            seconds=answer.seconds,
        )


@dataclass(frozen=True, slots=True)
class _Job:
    text: str
    profile: Profile
    file_name: str
    notices: list[Notice] = field(default_factory=list)


def _document(job: _Job, profile: Profile, answer: Answer, notices: list[Notice]) -> dict[str, Any]:
    record = answer.record or {}
    notices = [*notices, *_notices_on(record)]
    return {
        "file_name": job.file_name,
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
        "profile": {**profile.to_wire(), "templater": "raw", "digest": profile.digest()},
    }


def _notices_on(record: dict[str, Any]) -> list[Notice]:
    notices = []
    shown, found, hidden = len(record["violations"]), record["found"], record["noqa_comments"]
    if found > shown:
        message = f"Only the first {shown} of {found} violations are listed."
        notices.append(Notice("VIOLATIONS_CUT", message))
    if hidden:
        message = f"Comments (noqa) that can hide violations: {hidden}."
        notices.append(Notice("VIOLATIONS_SUPPRESSED", message))
    broken = [v for v in record["violations"] if v["code"] in _SYNTAX_CODES]
    if broken and record["parsed"]:
        line = broken[0]["start_line_no"]
        message = "A part of the file could not be parsed; most rules do not look at that part."
        notices.append(Notice("PARTLY_PARSED", message, line))
    return notices


def _syntax_error(violations: list[dict[str, Any]]) -> str:
    error = next(v for v in violations if v["code"] in _SYNTAX_CODES)
    line, position = error["start_line_no"], error["start_line_pos"]
    description = " ".join(str(error["description"]).split())
    description = description.removeprefix(f"Line {line}, Position {position}: ")
    description = description.partition(" Expected: ")[0]  # the names of SQLFluff's grammar
    if description.startswith("Maximum parse"):
        return f"SQLFluff's parser gave up on this file: {description}"[:_MAX_MESSAGE]
    return f"Syntax error on line {line}, position {position}: {description}"[:_MAX_MESSAGE]


def _failure_message(answer: Answer, deadline: float) -> str:
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
