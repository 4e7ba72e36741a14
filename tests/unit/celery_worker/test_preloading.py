"""What a worker loads before it forks: a process of its pool has nothing left to import."""

import json
import subprocess
import sys

_PROGRAM = """
import asyncio, gc, json, sys
from app.celery_worker.preloading import preload
from app.config.settings import Settings
from app.db import Databases
from app.redis import open_cache

settings = Settings.model_validate({
    "databases": {
        "postgres_main": {"url": "postgresql+asyncpg://nobody@127.0.0.1:1/none"},
        "mysql_lint": {"url": "mysql+aiomysql://nobody@127.0.0.1:1/none"},
    },
    "redis": {"url": "redis://127.0.0.1:1/0"},
})
preload(settings)
before = set(sys.modules)

async def open_all():
    databases = Databases(settings.databases)
    databases.hot_connection("postgres_main")
    for bind in databases.binds:
        databases.get_engine(bind)
        databases.get_sync_engine(bind)
    cache = open_cache(settings.redis)
    await cache.close()
    await databases.dispose()

asyncio.run(open_all())
print(json.dumps({
    "late": sorted(set(sys.modules) - before),
    "drivers": [name in before for name in ("psycopg", "asyncpg", "aiomysql", "redis.asyncio")],
    "frozen": gc.get_freeze_count() > 0,
}))
"""


def test_after_preloading_nothing_of_the_drivers_is_left_to_import() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], capture_output=True, text=True, check=True, timeout=60
    )
    told = json.loads(done.stdout)
    assert told["drivers"] == [True, True, True, True]
    assert told["late"] == []
    assert told["frozen"]
