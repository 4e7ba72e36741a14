"""Where a job's files lie on the storage. A client's name is never a part of a path as it is."""

import re
import unicodedata

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_STEM = 80
_MAX_SHOWN = 255
# The service's own folders: what one user's job left there is not another user's input.
OWN_FOLDERS = frozenset({"jobs", "results"})


def text_key(job_id: str) -> str:
    """Return the key of a text that came in a request."""
    return f"jobs/{job_id}/source/query.sql"


def upload_key(job_id: str, extension: str) -> str:
    """Return the key of an uploaded file; the extension has no dot."""
    return f"jobs/{job_id}/source/upload.{extension}"


def member_key(job_id: str, number: int, member_name: str) -> str:
    """Return the key of an archive's member: its number and a tame form of its name."""
    stem = _UNSAFE.sub("_", member_name.rsplit("/", 1)[-1].rsplit(".", 1)[0])[:_MAX_STEM]
    return f"jobs/{job_id}/source/{number:05d}_{stem.strip('.') or 'file'}.sql"


def result_key(job_id: str, task_id: str) -> str:
    """Return the key of a file's result document."""
    return f"jobs/{job_id}/results/{task_id}.json"


def shown_name(name: str) -> str:
    """Return the last part of a client's file name without characters that act on a terminal."""
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(c if unicodedata.category(c)[0] != "C" else "\ufffd" for c in last)
    return clean.strip()[:_MAX_SHOWN] or "upload"
