"""`make test`: find or start the services, run the checks and all tests, say what was used."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from scripts.debian_services import DebianServices
from scripts.docker_services import DockerServices
from tests.services import ENVIRONMENT, Found, Missing, find_services

COVERAGE_PERCENT = 90


class Starter(Protocol):
    """A way to get services that this machine does not run yet."""

    def unavailable(self) -> str | None: ...
    def start(self, names: Sequence[str]) -> dict[str, str]: ...
    def stop(self) -> None: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code of the whole run: 0 when the checks and all tests passed."""
    options = _parse(arguments)
    started = time.monotonic()
    failed = []
    if options.lint and subprocess.run(["scripts/lint"], check=False).returncode != 0:
        failed.append("lint")
    starters: dict[str, Starter] = {"docker": DockerServices(), "debian": DebianServices()}
    with use_services({name: starters[name] for name in options.start}) as services:
        print_table(services)
        complete = all(isinstance(service, Found) for service in services.values())
        if _run_pytest(options.pytest, measure=complete and not options.pytest) != 0:
            failed.append("tests")
    is_ci = os.environ.get("CI") == "true"
    if not complete and is_ci:
        failed.append("missing services")
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print_summary(services, failed, f"{minutes} min {seconds} s")
    return 1 if failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.run_tests", description=__doc__)
    parser.add_argument("--no-lint", dest="lint", action="store_false", help="tests only")
    parser.add_argument(
        "--start",
        type=lambda text: [name for name in text.split(",") if name],
        default=["docker", "debian"],
        help="how missing services may be started: docker,debian (default) or an empty text",
    )
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser.parse_args(arguments)


@contextmanager
def use_services(starters: Mapping[str, Starter]) -> Iterator[dict[str, Found | Missing]]:
    """All services by name, the missing ones started by the first starter that can."""
    services = find_services()
    given = {name: os.environ.get(variable) for name, variable in ENVIRONMENT.items()}
    used = []
    try:
        for label, starter in starters.items():
            wanted = [
                name
                for name, service in services.items()
                if isinstance(service, Missing) and not given[name]
            ]
            if not wanted:
                break
            if reason := starter.unavailable():
                print(f"test: {label}: {reason}", flush=True)
                continue
            used.append(starter)
            services |= _start(label, starter, wanted)
        _export(services)
        yield services
    finally:
        _restore(given)
        for starter in used:
            starter.stop()


def _start(label: str, starter: Starter, names: Sequence[str]) -> dict[str, Found | Missing]:
    print(f"test: {label}: starting {', '.join(names)}", flush=True)
    try:
        urls = starter.start(names)
    except (OSError, subprocess.SubprocessError) as error:
        output = getattr(error, "stderr", b"") or b""
        text = output.decode(errors="replace") if isinstance(output, bytes) else str(output)
        print(f"test: {label}: {error} {text[-600:]}".rstrip(), flush=True)
        return {}
    os.environ.update({ENVIRONMENT[name]: url for name, url in urls.items()})
    found = find_services()
    return {
        name: Found(service.url, service.version, label)
        if isinstance(service := found[name], Found)
        else service
        for name in names
    }


def _export(services: Mapping[str, Found | Missing]) -> None:
    """The test processes use exactly the services of the table."""
    for name, service in services.items():
        if isinstance(service, Found):
            os.environ[ENVIRONMENT[name]] = service.url


def _restore(given: Mapping[str, str | None]) -> None:
    for name, value in given.items():
        if value is None:
            os.environ.pop(ENVIRONMENT[name], None)
        else:
            os.environ[ENVIRONMENT[name]] = value


def print_table(services: Mapping[str, Found | Missing]) -> None:
    print("test: services", flush=True)
    for name, service in services.items():
        if isinstance(service, Found):
            print(f"  {name:<10}{service.version:<20}{service.source}", flush=True)
        else:
            print(f"  {name:<10}{'not here':<20}{service.reason}", flush=True)


def print_summary(
    services: Mapping[str, Found | Missing], failed: Sequence[str], duration: str
) -> None:
    missing = [name for name, service in services.items() if isinstance(service, Missing)]
    used = [service.version for service in services.values() if isinstance(service, Found)]
    if missing:
        print(f"test: tests that need {', '.join(missing)} did not run: not found, not startable")
        print("test: coverage was not measured, because not all tests could run")
    outcome = f"FAILED ({', '.join(failed)})" if failed else "passed"
    print(f"test: {outcome} in {duration} on {', '.join(used) or 'no service'}", flush=True)


def _run_pytest(extra: Sequence[str], *, measure: bool) -> int:
    command = [sys.executable, "-m", "pytest", "-n", "2", "--dist", "loadfile"]
    if measure:
        command += ["--cov", "--cov-report=term", f"--cov-fail-under={COVERAGE_PERCENT}"]
    return subprocess.run([*command, *extra], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
