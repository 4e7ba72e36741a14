"""The audit log only grows, by the code and by the database (tests/contract/tasks)."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_no_code_changes_or_deletes_what_was_written() -> None:
    forbidden = re.compile(r"(?:update|delete)\(\s*(?:AuditEntry|_ENTRY)|audit_log", re.IGNORECASE)
    found = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "app").rglob("*.py")
        if forbidden.search(path.read_text("utf-8")) and "_migrations" not in path.parts
    }
    # The model names its table; everything else goes through app.tasks.audit.
    assert found == {"app/tasks/models.py"}
