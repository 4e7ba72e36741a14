"""The lint service against the tool that it stands on: `python -m bench.lint FOLDER`.

Starts a deployment of its own (API, worker, beat) on the services that the tests use, and runs
`sqlfluff lint` and the service in turn on the same files. Speeds depend on the machine; what
counts are the ratios, and that each pair ran one after the other.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from bench.lint_files import Corpus, pick
from bench.processes import Used, worker_memory
from tests.integration.system.installation import System, real_system
from tests.services import Services

_ENDED = {"COMPLETED", "PARTIALLY_COMPLETED", "FAILED"}
_SQLFLUFF = str(Path(sys.executable).with_name("sqlfluff"))
_PROBE = {"task": "lint.sql", "params": {"sql": "SELECT 1\n"}}
_TICK_SECONDS = 0.05


@dataclass
class Figures:
    """What the rounds measured; times in seconds."""

    service: list[float] = field(default_factory=list)
    again: list[float] = field(default_factory=list)
    cli: list[float] = field(default_factory=list)
    idle: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)
    memory: dict[int, list[Used]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table."""
    options = _parse(arguments)
    corpus = pick(options.folder, options.files)
    print(f"bench: {len(corpus.texts)} files, {corpus.kilobytes:.0f} kB, {options.rounds} rounds")
    figures = Figures()
    services = Services()
    try:
        with tempfile.TemporaryDirectory(prefix="taskyard-bench-") as name:
            folder = Path(name)
            with real_system(folder, services) as system:
                bench = Bench(system, folder, options.dialect, figures)
                bench.warm_up()
                for number in range(options.rounds):
                    bench.round(number, corpus.marked(f"round {number} {time.time_ns()}"))
    finally:
        services.close()
    _print(figures, len(corpus.texts))
    return 0


@dataclass
class Bench:
    """One installation and the files of one round."""

    system: System
    folder: Path
    dialect: str
    figures: Figures

    def warm_up(self) -> None:
        """Start every sandbox, as a worker has that is not new."""
        with contextlib.closing(self.system.client()) as client:
            for _ in range(12):
                self._probe(client)
            self._job(client, Corpus({f"{n}.sql": b"SELECT 1\n" for n in range(8)}))

    def round(self, number: int, corpus: Corpus) -> None:
        """Measure each thing once; which of the two goes first changes from round to round."""
        with contextlib.closing(self.system.client()) as client:
            self.figures.idle += [self._probe(client) for _ in range(30)]
        steps = [self._run_cli, self._run_service]
        for step in steps if number % 2 else reversed(steps):
            step(number, corpus)
        with contextlib.closing(self.system.client()) as client:
            self.figures.again.append(self._job(client, corpus))
        last = self.figures
        print(
            f"bench: round {number}: service {last.service[-1]:.1f} s, sqlfluff {last.cli[-1]:.1f} s, "
            f"again {last.again[-1]:.2f} s",
            flush=True,
        )

    def _run_cli(self, number: int, corpus: Corpus) -> None:
        folder = corpus.write(self.folder / f"cli-{number}")
        command = [
            *(_SQLFLUFF, "lint", "--ignore-local-config", "--templater", "raw"),
            *("--dialect", self.dialect, "--processes", "2", "--format", "json"),
            *("--write-output", str(self.folder / "cli.json"), str(folder)),
        ]
        # The lint of an archive runs at this niceness, so the comparison does as well.
        started = time.perf_counter()
        done = subprocess.run(["nice", "-n", "10", *command], capture_output=True, check=False)
        self.figures.cli.append(time.perf_counter() - started)
        if done.returncode not in {0, 1}:
            raise SystemExit(done.stderr.decode(errors="replace")[-2000:])
        linted = len(json.loads((self.folder / "cli.json").read_bytes()))
        if linted != len(corpus.texts):
            raise SystemExit(f"sqlfluff linted {linted} of {len(corpus.texts)} files.")

    def _run_service(self, number: int, corpus: Corpus) -> None:
        with contextlib.closing(self.system.client()) as client, self._probing():
            self.figures.service.append(self._job(client, corpus, sample=number == 0))

    def _job(self, client: httpx2.Client, corpus: Corpus, *, sample: bool = False) -> float:
        """Return the seconds from the request to the end of a job of these files."""
        data = corpus.archive()
        place = self.folder / "files" / "inbox" / f"{time.time_ns()}.zip"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        body = {"zip_file_path": f"inbox/{place.name}", "dialect": self.dialect}
        started = time.perf_counter()
        accepted = client.post("/jobs", json=body)
        accepted.raise_for_status()
        job_id = accepted.json()["job_id"]
        while True:
            job: dict[str, Any] = client.get(f"/jobs/{job_id}", params={"size": 1}).json()
            if job["job_status"] in _ENDED:
                break
            if sample:
                self._sample(job_id, len(corpus.texts))
            time.sleep(_TICK_SECONDS)
        seconds = time.perf_counter() - started
        if job["sub_tasks"]["total"] != len(corpus.texts):
            raise SystemExit(f"The job has {job['sub_tasks']['total']} files.")
        if sample:
            self.figures.memory[100] = worker_memory()
        return seconds

    def _sample(self, job_id: str, total: int) -> None:
        """Remember the memory at three tenths of the files."""
        results = self.folder / "files" / "jobs" / job_id / "results"
        with contextlib.suppress(FileNotFoundError):
            if 30 not in self.figures.memory and len(os.listdir(results)) >= 0.3 * total:
                self.figures.memory[30] = worker_memory()

    @contextlib.contextmanager
    def _probing(self) -> Iterator[None]:
        """Ask for one small lint after the other meanwhile, a few in a second."""
        over = threading.Event()

        def ask() -> None:
            with contextlib.closing(self.system.client()) as client:
                while not over.wait(0.5):
                    self.figures.busy.append(self._probe(client))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _probe(self, client: httpx2.Client) -> float:
        started = time.perf_counter()
        # Another text each time: this is the speed of a lint, not of a cache.
        sql = f"SELECT {time.time_ns()}\n"
        body = {**_PROBE, "params": {"sql": sql, "dialect": self.dialect}}
        answer = client.post("/tasks/run", json=body, headers={"Prefer": "wait=30"})
        seconds = time.perf_counter() - started
        if answer.status_code != 200 or answer.json()["status"] != "SUCCEEDED":
            raise SystemExit(f"The small lint was answered with {answer.text[:500]}")
        return seconds


def _print(figures: Figures, files: int) -> None:
    service, cli = statistics.median(figures.service), statistics.median(figures.cli)
    ratios = [a / b for a, b in zip(figures.cli, figures.service, strict=True)]
    repeats = [a / b for a, b in zip(figures.service, figures.again, strict=True)]
    idle, busy = statistics.median(figures.idle), statistics.median(figures.busy)
    print(f"files per second, service / sqlfluff      {files / service:.1f} / {files / cli:.1f}")
    print(
        f"ratio                                     {statistics.median(ratios):.2f}"
        f"  ({', '.join(f'{ratio:.2f}' for ratio in ratios)})"
    )
    print(
        f"the same archive again, times faster      {statistics.median(repeats):.1f}"
        f"  ({', '.join(f'{ratio:.1f}' for ratio in repeats)})"
    )
    print(
        f"one small lint, p50 idle / busy           {idle * 1000:.0f} ms / {busy * 1000:.0f} ms"
        f"  ({len(figures.busy)} probes, p90 {_p90(figures.busy) * 1000:.0f} ms)"
    )
    for share, used in sorted(figures.memory.items()):
        shown = ", ".join(f"{one.role} {one.own_mb:.0f}" for one in used)
        print(f"own memory in MB after {share:3d} % of the files: {shown}")


def _p90(values: Sequence[float]) -> float:
    return sorted(values)[int(len(values) * 0.9)] if values else 0.0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.lint", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder with .sql files, looked through deeply")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dialect", default="postgres")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
