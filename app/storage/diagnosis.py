"""What `taskyard doctor` tries on the storage: one small file, written, read and deleted."""

from collections.abc import Iterator
from pathlib import Path

from app.common.errors import TaskyardError
from app.common.findings import Finding, good
from app.common.ids import new_id
from app.common.redaction import mask_text
from app.config.settings import StorageSettings
from app.storage.errors import StorageUnavailable
from app.storage.factory import open_storage

_SHARED = ("nfs", "cifs", "smb", "ceph", "gluster", "lustre", "fuse", "9p", "afs", "virtiofs")
_MOUNTS = Path("/proc/mounts")
_PROBE = b"taskyard doctor"


def check_storage(settings: StorageSettings, *, is_shared: bool) -> Iterator[Finding]:
    """Yield whether files can be kept, and with `is_shared` whether other machines would see
    them.
    """
    storage = open_storage(settings, threads=False).sync
    key = f"doctor/{new_id()}"
    try:
        storage.put(key, _PROBE)
        same = storage.get(key) == _PROBE
        folder = storage.local_path(key)
        storage.delete(key)
    except StorageUnavailable as error:
        yield _refused(error.detail) if is_shared else _not_made_yet(error)
        return
    except (TaskyardError, OSError) as error:
        yield _refused(mask_text(str(error)))
        return
    finally:
        storage.close()
    if not same:
        yield _refused("what was read is not what was written")
        return
    yield good("storage", "written, read and deleted")
    if is_shared and folder is not None and (kind := _local_kind(folder)) is not None:
        yield Finding(
            check="storage shared",
            level="warn",
            what=f"the folder is on a disk of this machine ({kind})",
            why="API and workers on other machines would not see each other's files.",
            fix="mount a shared folder and set TASKYARD_STORAGE__URL=file:///mnt/...",
        )


def _not_made_yet(error: StorageUnavailable) -> Finding:
    return Finding(
        check="storage",
        level="warn",
        what=error.detail,
        why="Before the first `taskyard dev` that is as it should be.",
        fix="taskyard dev",
    )


def _refused(why: str) -> Finding:
    return Finding(
        check="storage",
        level="fail",
        what=f"no file can be kept: {why}",
        why="Uploads, archives and large results lie there.",
        fix="taskyard config show -o table | grep storage.url",
        unavailable=True,
    )


def _local_kind(file: Path) -> str | None:
    """Return the file system below a file unless it is a network's; None as well when unknown."""
    if not _MOUNTS.exists():
        return None
    kinds = {}
    for line in _MOUNTS.read_text("utf-8", errors="replace").splitlines():
        _, point, kind, *_ = line.split(" ")
        kinds[Path(point)] = kind
    nearest = next((kinds[parent] for parent in file.parents if parent in kinds), None)
    return None if nearest is None or nearest.startswith(_SHARED) else nearest
