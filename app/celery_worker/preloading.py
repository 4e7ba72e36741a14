"""Code that the processes of a worker share: it is loaded once, before they are forked.

What a process imports by itself it pays for in memory that no other shares, and in time at its
first run; a process is replaced after so many runs.
"""

import gc

from app.config.settings import Settings
from app.db import load_drivers
from app.redis import open_cache


def preload(settings: Settings) -> None:
    """Import what a run needs beside its task: the drivers of the databases and of the cache.

    Nothing connects. What is there by now is left out of every later collection of garbage, which
    would write to pages that the processes share.
    """
    load_drivers(settings.databases)
    open_cache(settings.redis)
    gc.collect()
    gc.freeze()
