"""Do the calls stay as fast with a million runs as with ten thousand?

Databases of 10 thousand, 100 thousand and 1 million runs that look like a year of work; each call
is made on one after the other, in this process, and its median of a few is one value of the round.
"""

import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from app.config import Settings, load_settings
from bench.generated_runs import generate
from bench.growth_calls import Call, Site, calls_of
from bench.rounds import Bar, Bench, judge

TITLE = "1 million runs beside 10 thousand"
COLUMNS = "sides"
_SIZES = (10_000, 100_000, 1_000_000)
_SMALLEST = 10_000
_MOST = 2.0
_REPEATS = 5
_WARM_UP = 3


def name_of(size: int) -> str:
    """Return what a database is called in the tables."""
    return f"{size:,} runs"


BARS = tuple(
    Bar(metric, name_of(_SIZES[-1]), name_of(_SIZES[0]), "at most", _MOST)
    for metric in (
        "submit",
        "claim",
        "first page",
        "status and label",
        "dead letter groups",
        "sweep",
    )
)


def measure(bench: Bench) -> None:
    """Make the databases, then make every call on each in turn."""
    sizes = sorted({bench.of(size, least=_SMALLEST) for size in _SIZES})
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for size in sizes:
            settings = _settings(bench.yard.database(f"growth-{size}"), Path(folder))
            started = time.monotonic()
            generate(settings, size)
            bench.remark(f"{name_of(size)} made in {time.monotonic() - started:.0f} s")
            made.append((size, settings))
        asyncio.run(_measure(bench, made))
    _tell_growth(bench, sizes)


async def _measure(bench: Bench, made: Sequence[tuple[int, Settings]]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        calls: dict[int, dict[str, Call]] = {}
        for size, settings in made:
            site = Site(settings)
            stack.push_async_callback(site.close)
            await site.prepare()
            calls[size] = await calls_of(site, size)
        for name in next(iter(calls.values())):
            for size in calls:
                # The first ones open connections and plan statements.
                await _median_ms(calls[size][name], _WARM_UP)
            for number, size in bench.turns(list(calls)):
                milliseconds = await _median_ms(calls[size][name], _REPEATS)
                bench.note(name, name_of(size), number, milliseconds, "ms")


async def _median_ms(call: Call, repeats: int) -> float:
    times = []
    for _ in range(repeats):
        prepared = await call.before()
        started = time.perf_counter()
        await call.timed(prepared)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def _tell_growth(bench: Bench, sizes: Sequence[int]) -> None:
    """Say which calls grow to more than the bar, those without a bar of their own included."""
    small, large = name_of(sizes[0]), name_of(sizes[-1])
    metrics = dict.fromkeys(sample.metric for sample in bench.samples)
    bars = [Bar(metric, large, small, "at most", _MOST) for metric in metrics]
    slow = [bar.metric for bar in bars if not judge(bar, bench.samples).is_met]
    told = f": {', '.join(slow)}" if slow else ""
    bench.remark(f"{len(slow)} of {len(bars)} calls grow to more than {_MOST:g} times{told}")


def _settings(url: str, folder: Path) -> Settings:
    environ = {"TASKYARD_DATABASES__POSTGRES_MAIN__URL": url}
    return load_settings(data_dir=folder, embedded=False, environ=environ)
