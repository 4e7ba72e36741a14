"""Faults of a real file system: full, read-only, unmounted. They need a mount, so root."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import subprocess, sys
from pathlib import Path
from app.storage import StorageUnavailable
from app.storage.local import LocalStorage

mount = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)], check=True)
storage = LocalStorage(mount / "files")

def unavailable(call, *arguments):
    try:
        call(*arguments)
    except StorageUnavailable as error:
        return error.hint
    raise SystemExit(f"{call} {arguments} did not fail")

storage.put("a", b"before")
assert "full" in unavailable(storage.put, "a", bytes(1 << 20))
assert "full" in unavailable(storage.put, "b", bytes(1 << 20))
assert storage.get("a") == b"before"
assert storage.list() == ["a"], storage.list()
assert list((mount / "files/.taskyard-staging").iterdir()) == []
storage.put("small", b"there is room again")

subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
assert "read-only" in unavailable(storage.put, "c", b"x")
assert "read-only" in unavailable(storage.delete, "a")
assert "read-only" in unavailable(storage.ping)
assert storage.get("a") == b"before"
subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
storage.put("c", b"x")

subprocess.run(["umount", str(mount)], check=True)
unavailable(storage.put, "d", b"x")
unavailable(storage.get, "a")
unavailable(storage.ping)
assert list(mount.iterdir()) == []
print("all faults survived")
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_read_only_or_unmounted_storage_is_unavailable(tmp_path: Path) -> None:
    if not can_mount():
        pytest.skip("this process may not mount file systems")
    command = ["unshare", "-m", sys.executable, "-c", SCRIPT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "all faults survived\n", done.stderr
