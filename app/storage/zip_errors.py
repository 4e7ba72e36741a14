"""Why an archive, or one member of it, is refused: stable reason codes and words for people."""

from collections.abc import Sequence
from typing import NamedTuple

from app.common.errors import FieldError, ValidationFailed

_SHOWN_MEMBERS = 20


class RejectedMember(NamedTuple):
    """One bad member: its name made safe to show, a stable reason code, and what to do."""

    name: str
    reason_code: str
    message: str


class ArchiveRefused(ValidationFailed):
    """The archive as a whole cannot be trusted or read; the detail says what to do about it."""

    code = "ARCHIVE_REFUSED"
    title = "Archive refused"

    def __init__(
        self, reason_code: str, detail: str, *, rejected: Sequence[RejectedMember] = ()
    ) -> None:
        errors = [
            FieldError(("archive", member.name), member.message, member.reason_code)
            for member in rejected[:_SHOWN_MEMBERS]
        ]
        super().__init__(detail, errors=errors)
        self.reason_code = reason_code
        self.rejected = tuple(rejected)


class MemberRefused(Exception):
    """One member is bad; becomes a RejectedMember. Never leaves the reader."""

    def __init__(self, reason_code: str, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message
