"""The result of an expansion."""

from typing import Literal

from pydantic import BaseModel


class ExpandedFile(BaseModel):
    """One file: what the archive called it, and the storage key that was chosen for it."""

    name: str
    key: str
    size_bytes: int
    sha256: str


class RejectedFile(BaseModel):
    """One bad member: a stable reason code, and a message that says what to do."""

    name: str
    reason_code: str
    message: str


class SkippedFile(BaseModel):
    """One member that was left out without being bad."""

    name: str
    reason_code: str


class ExpandedArchive(BaseModel):
    """What became of an archive. Lists are cut at the plugin's limit, the counts are not."""

    source: str
    target: str
    outcome: Literal["accepted", "partial"]
    files: list[ExpandedFile]
    total_bytes: int
    rejected: list[RejectedFile]
    rejected_count: int
    skipped: list[SkippedFile]
    skipped_count: int


class Manifest(BaseModel):
    """The file that a finished expansion leaves beside its files."""

    task_id: str
    result: ExpandedArchive
