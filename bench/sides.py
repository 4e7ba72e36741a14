"""Those that are compared."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
_VENV: Final = Path(os.environ.get("TASKYARD_BENCH_VENV", ROOT / ".venv-bench"))
PEERS_PYTHON: Final = _VENV / "bin/python"


@dataclass(frozen=True)
class Side:
    """One of those that are compared: its name in the tables and the module of its adapter.

    Ours has profiles: `fast` is that of the worker, `single` a queue that is not declared for tiny
    tasks.
    """

    name: str
    module: str
    profile: str = "default"

    @property
    def is_ours(self) -> bool:
        return not self.module.startswith("bench.peers.")

    @property
    def python(self) -> str:
        return sys.executable if self.is_ours else str(PEERS_PYTHON)


OURS: Final = Side("taskyard", "bench.product")
OURS_HTTP: Final = Side("taskyard, HTTP", "bench.product")
FAST: Final = Side("taskyard, fast", "bench.product", "fast")
SINGLE: Final = Side("taskyard, one by one", "bench.product", "single")
CELERY_REDIS: Final = Side("celery + redis", "bench.peers.celery_redis")
CELERY_POSTGRES: Final = Side("celery + postgres", "bench.peers.celery_postgres")
CELERY_DELAYED: Final = Side("celery, delayed", "bench.peers.celery_delayed")
TASKIQ: Final = Side("taskiq", "bench.peers.taskiq_rabbit")
DRAMATIQ: Final = Side("dramatiq", "bench.peers.dramatiq_rabbit")
PROCRASTINATE: Final = Side("procrastinate", "bench.peers.procrastinate_postgres")
STREAQ: Final = Side("streaq", "bench.peers.streaq_redis")
