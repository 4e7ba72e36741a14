"""The client's calls for workers."""

from typing import Any
from urllib.parse import quote

from app.cli.client import Client
from app.common import strict_json


class WorkerClient(Client):
    """Speaks to one service about its workers."""

    def workers(self) -> list[dict[str, Any]]:
        """Return every worker."""
        return self._items(self._get("workers"))

    def change(self, name: str, verb: str, reason: str | None) -> dict[str, Any]:
        """Drain or resume a worker; return it as it stands now."""
        headers = {"Content-Type": "application/json"}
        body = strict_json.dump_bytes({"reason": reason})
        path = f"workers/{quote(name, safe='')}/{verb}"
        return self._send("POST", path, content=body, headers=headers)
