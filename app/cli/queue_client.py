"""The client's calls for queues and for explanations."""

from typing import Any
from urllib.parse import quote

from app.cli.client import Client
from app.common import strict_json


class QueueClient(Client):
    """Speaks to one service about its queues."""

    def queues(self) -> list[dict[str, Any]]:
        """Return every queue."""
        return self._items(self._get("queues"))

    def change(self, name: str, verb: str, reason: str | None) -> dict[str, Any]:
        """Pause or resume a queue; return it as it stands now."""
        headers = {"Content-Type": "application/json"}
        body = strict_json.dump_bytes({"reason": reason})
        path = f"queues/{quote(name, safe='')}/{verb}"
        return self._send("POST", path, content=body, headers=headers)

    def explanation(self, task_id: str) -> dict[str, Any]:
        """Return why a run is where it is."""
        return self._get(f"tasks/{quote(task_id, safe='')}/explain")
