"""Why an archive was not expanded; another attempt would end the same way."""

from app import Fatal


class ArchiveUnusable(Fatal):
    """The archive is broken, hostile or holds nothing usable; the message says what to do."""


class ArchiveMissing(Fatal):
    """There is no file with the source's key on the storage."""


class TargetTaken(Fatal):
    """The target folder holds files already; nothing was written."""
