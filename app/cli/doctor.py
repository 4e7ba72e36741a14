"""`taskyard doctor`: what is wrong with this installation, and the command that mends it."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from app.cli.exit_codes import ExitCode
from app.cli.installation import read_settings
from app.cli.options import Output, examples
from app.cli.output import OutputFormat, chosen_format, print_rows, progress
from app.cli.text import printable

if TYPE_CHECKING:
    from app.common.findings import Finding
    from app.config import Settings
    from app.config.plugins import LoadedPlugin
    from app.tasks.registry import Registry

_COLUMNS = ("check", "level", "what", "why", "fix")
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("doctor", epilog=examples("taskyard doctor", "taskyard doctor -o json"))(doctor)


def doctor(*, output: Output = None) -> None:
    """Check versions, settings, services, queues and migrations, and tell what mends them.

    Exit 1 when something fails, 5 when a service does not answer.
    """
    findings = list(_examine())
    if chosen_format(output) is OutputFormat.TABLE:
        _print_findings(findings)
    else:
        print_rows([asdict(finding) for finding in findings], _COLUMNS, output)
    counts = {level: sum(one.level == level for one in findings) for level in _STYLES}
    progress(f"doctor: {counts['ok']} ok, {counts['warn']} warnings, {counts['fail']} failed")
    if any(finding.unavailable for finding in findings):
        raise typer.Exit(ExitCode.UNAVAILABLE)
    if counts["fail"]:
        raise typer.Exit(ExitCode.FAILED)


def _examine() -> "Iterator[Finding]":
    from app.cli.packages import check_packages
    from app.common.errors import ConfigurationError
    from app.common.findings import Finding, good

    yield from check_packages()
    try:
        settings = read_settings()
    except ConfigurationError as error:
        # Nothing else can be looked at: where would it be?
        yield Finding(
            check="settings",
            level="fail",
            what=error.detail,
            why=error.hint or "No process starts with these settings.",
            fix="taskyard config show",
        )
        return
    yield good("settings", "read")
    plugins, registry, faults = _load(settings)
    yield from faults
    yield from _check_services(settings, plugins, registry)


def _load(
    settings: "Settings",
) -> "tuple[Sequence[LoadedPlugin], Registry, list[Finding]]":
    from app.common.errors import ConfigurationError
    from app.common.findings import Finding, good
    from app.tasks.registry import Registry
    from app.tasks.services import load_code

    celery = settings.celery
    try:
        plugins, registry = load_code(settings)
    except ConfigurationError as error:
        fault = Finding(
            check="plugins",
            level="fail",
            what=error.detail,
            why=error.hint or "A plugin that cannot be loaded stops every process.",
            fix="taskyard plugins list",
        )
        return (), Registry([], (celery.default_queue, *celery.queues)), [fault]
    return plugins, registry, [good("plugins", f"{len(plugins)}, {len(registry.specs())} tasks")]


def _check_services(
    settings: "Settings", plugins: "Sequence[LoadedPlugin]", registry: "Registry"
) -> "Iterator[Finding]":
    from app.auth.diagnosis import check_key
    from app.db import Databases
    from app.db.diagnosis import check_databases
    from app.storage.diagnosis import check_storage
    from app.tasks.diagnosis import check_rows

    databases = Databases(settings.databases)
    try:
        yield from check_databases(databases, plugins)
        yield from check_rows(databases, is_embedded=settings.is_embedded)
    finally:
        databases.dispose_sync()
    yield from _check_cache(settings)
    yield from check_storage(settings.storage, is_shared=not settings.is_embedded)
    yield from check_key(settings)
    yield from _check_queue(settings, registry)


def _check_cache(settings: "Settings") -> "Iterator[Finding]":
    from app.common.findings import Finding, good

    if settings.redis.url.get_secret_value().startswith("memory:"):
        if settings.is_embedded:
            yield good("redis", "not used: the cache is in memory")
        else:
            yield Finding(
                check="redis",
                level="warn",
                what="the cache is in memory, and there are several processes",
                why="Each process has a cache and log-in limits of its own.",
                fix="export TASKYARD_REDIS__URL=redis://HOST:6379/0",
            )
        return
    from app.redis.diagnosis import check_redis

    yield from check_redis(settings.redis)


def _check_queue(settings: "Settings", registry: "Registry") -> "Iterator[Finding]":
    from app.celery_worker.diagnosis import check_broker, check_celery_settings
    from app.common.findings import Finding, good

    if settings.is_embedded:
        yield good("broker", "inside the process of `taskyard dev`; there is nothing to ask")
    else:
        longest = max((spec.options.timeout_seconds for spec in registry.specs()), default=0.0)
        yield from check_broker(settings.celery, registry.queues(), longest)
        local = [
            bind
            for bind, database in settings.databases.items()
            if database.url.get_secret_value().startswith("sqlite")
        ]
        if local:
            yield Finding(
                check="databases",
                level="warn",
                what=f"SQLite beside a real broker: {', '.join(sorted(local))}",
                why="Processes on other machines would each have a database of their own.",
                fix="set TASKYARD_DATABASES__<NAME>__URL for each of them",
            )
    yield from check_celery_settings(settings.celery)


def _print_findings(findings: "Sequence[Finding]") -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        line = Text.assemble(
            (f"{finding.level:<4}  ", _STYLES[finding.level]),
            (f"{printable(finding.check):<{width}}  ", "bold"),
            printable(finding.what),
        )
        console.print(line)
        for label, told in (("why", finding.why), ("fix", finding.fix)):
            if finding.level != "ok" and told:
                console.print(Text(f"{'':<{width + 8}}{label}: {printable(told)}"))
