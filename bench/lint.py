"""The lint service beside the tool that it stands on: `python -m bench.lint FOLDER`.

Starts a deployment of its own (API, worker, beat) on the services that the tests use, and gives
the same files in turn to it and to `sqlfluff lint --processes 2`. Speeds depend on the machine and
on what else it does; what counts are the ratios of what ran one right after the other.
"""

import argparse
import contextlib
import json
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from bench.lint_files import MAX_BYTES, Corpus, pick
from bench.lint_table import Figures, table
from bench.processes import spending, worker_memory
from tests.integration.system.installation import System, real_system
from tests.services import Services

_ENDED = {"COMPLETED", "PARTIALLY_COMPLETED", "FAILED"}
_SQLFLUFF = str(Path(sys.executable).with_name("sqlfluff"))
# The lint of an archive gives way by as much: within its session, and as a session.
_NICE = (
    "import os, sys; from app.plugins.lint.sandbox_child import give_way; "
    "give_way(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
)
_PROBES = 40
# So many files are linted while the small lints are timed.
_BUSY_FILES = 150
_TICK_SECONDS = 0.5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the rounds and print the table."""
    options = _parse(arguments)
    # Ended from outside, it still ends its processes and removes what it made on the services.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    corpus = pick(options.folder, options.files, options.max_bytes)
    print(f"bench: {len(corpus.texts)} files, {corpus.kilobytes:.0f} kB, {options.rounds} rounds")
    figures = Figures()
    services = Services()
    try:
        with tempfile.TemporaryDirectory(prefix="taskyard-bench-") as name:
            folder = Path(name)
            niceness = {"TASKYARD_PLUGIN_SETTINGS__LINT__BATCH_NICENESS": str(options.niceness)}
            with real_system(folder, services, niceness) as system:
                bench = Bench(system, folder, options.dialect, options.niceness, figures)
                bench.warm_up()
                for number in range(options.rounds):
                    bench.round(number, corpus.marked(f"round {number} {time.time_ns()}"))
    finally:
        services.close()
    print("\n".join(table(figures, len(corpus.texts))))
    return 0


@dataclass
class Bench:
    """One installation; each method measures into `figures`."""

    system: System
    folder: Path
    dialect: str
    niceness: int
    figures: Figures

    def warm_up(self) -> None:
        """Start every sandbox, as a worker has that is not new."""
        with contextlib.closing(self.system.client()) as client:
            for _ in range(12):
                self._probe(client)
            self._job(client, Corpus({f"{n}.sql": b"SELECT %d\n" % n for n in range(8)}))

    def round(self, number: int, corpus: Corpus) -> None:
        """Measure each thing once; which of the two goes first changes from round to round."""
        with contextlib.closing(self.system.client()) as client:
            self.figures.idle += [self._probe(client) for _ in range(_PROBES)]
        steps = [self._run_cli, self._run_service]
        for step in steps if number % 2 else reversed(steps):
            step(number, corpus)
        with contextlib.closing(self.system.client()) as client:
            self.figures.again.append(self._job(client, corpus, tick=0.05))
            some = Corpus(dict(list(corpus.texts.items())[:_BUSY_FILES]))
            with self._probing():
                self._job(client, some.marked("busy"))
        last = self.figures
        print(
            f"bench: round {number}: service {last.service[-1]:.1f} s "
            f"(cpu {last.service_cpu[-1]:.1f}), sqlfluff {last.cli[-1]:.1f} s "
            f"(cpu {last.cli_cpu[-1]:.1f}), again {last.again[-1]:.2f} s",
            flush=True,
        )

    def _run_cli(self, number: int, corpus: Corpus) -> None:
        folder, output = corpus.write(self.folder / f"cli-{number}"), self.folder / "cli.json"
        command = [
            *(sys.executable, "-c", _NICE, str(self.niceness), _SQLFLUFF, "lint"),
            *("--ignore-local-config", "--templater", "raw"),
            *("--dialect", self.dialect, "--processes", "2", "--format", "json"),
            *("--write-output", str(output), str(folder)),
        ]
        before, started = _children_cpu(), time.perf_counter()
        done = subprocess.run(command, capture_output=True, check=False)
        self.figures.cli.append(time.perf_counter() - started)
        self.figures.cli_cpu.append(_children_cpu() - before)
        if done.returncode not in {0, 1}:
            raise SystemExit(done.stderr.decode(errors="replace")[-2000:])
        linted = len(json.loads(output.read_bytes()))
        if linted != len(corpus.texts):
            raise SystemExit(f"sqlfluff linted {linted} of {len(corpus.texts)} files.")

    def _run_service(self, number: int, corpus: Corpus) -> None:
        with contextlib.closing(self.system.client()) as client, spending() as spent:
            self.figures.service.append(self._job(client, corpus, sample=number == 0))
            self.figures.service_cpu.append(spent.seconds)

    def _job(
        self,
        client: httpx2.Client,
        corpus: Corpus,
        *,
        sample: bool = False,
        tick: float = _TICK_SECONDS,
    ) -> float:
        """Return the seconds from the request to the end of a job of these files."""
        place = self.folder / "files" / "inbox" / f"{time.time_ns()}.zip"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(corpus.archive())
        body = {"zip_file_path": f"inbox/{place.name}", "dialect": self.dialect}
        started = time.perf_counter()
        accepted = client.post("/jobs", json=body)
        accepted.raise_for_status()
        job_id = accepted.json()["job_id"]
        while (job := self._look(client, job_id))["job_status"] not in _ENDED:
            if sample:
                self._sample(job_id, len(corpus.texts))
            time.sleep(tick)
        seconds = time.perf_counter() - started
        if job["sub_tasks"]["total"] != len(corpus.texts):
            raise SystemExit(f"The job has {job['sub_tasks']['total']} files.")
        if sample:
            self.figures.memory["at the end"] = worker_memory()
        return seconds

    def _look(self, client: httpx2.Client, job_id: str) -> dict[str, Any]:
        job: dict[str, Any] = client.get(f"/jobs/{job_id}", params={"size": 1}).json()
        return job

    def _sample(self, job_id: str, total: int) -> None:
        """Remember the memory at three tenths of the files."""
        results = self.folder / "files" / "jobs" / job_id / "results"
        if "at 30 %" in self.figures.memory or not results.is_dir():
            return
        if len(list(results.iterdir())) >= 0.3 * total:
            self.figures.memory["at 30 %"] = worker_memory()

    @contextlib.contextmanager
    def _probing(self) -> Iterator[None]:
        """Ask for one small lint after the other meanwhile, a few in a second."""
        over = threading.Event()

        def ask() -> None:
            with contextlib.closing(self.system.client()) as client:
                while not over.wait(0.25):
                    self.figures.busy.append(self._probe(client))

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _probe(self, client: httpx2.Client) -> float:
        # Another text each time: this is the speed of a lint, not of what is known already.
        params = {"sql": f"SELECT {time.time_ns()}\n", "dialect": self.dialect}
        body, wait = {"task": "lint.sql", "params": params}, {"Prefer": "wait=30"}
        started = time.perf_counter()
        answer = client.post("/tasks/run", json=body, headers=wait)
        seconds = time.perf_counter() - started
        if answer.status_code != 200 or answer.json()["status"] != "SUCCEEDED":
            raise SystemExit(f"The small lint was answered with {answer.text[:500]}")
        return seconds


def _children_cpu() -> float:
    """Return the processor time of the processes that this one started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.lint", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder with .sql files, looked through deeply")
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-bytes", type=int, default=MAX_BYTES, help="of one file")
    parser.add_argument("--niceness", type=int, default=10, help="of both sides' lint")
    parser.add_argument("--dialect", default="ansi")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
