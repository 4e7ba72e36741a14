"""`taskyard openapi`: the document of the HTTP API, made without starting it."""

import secrets
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import typer

from app.cli.installation import read_settings
from app.cli.options import examples
from app.cli.output import print_json

if TYPE_CHECKING:
    from app.api.services import ApiServices
    from app.config import Settings
    from app.tasks.transport import QueueLevel, Wakeup


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command("openapi", epilog=examples("taskyard openapi > openapi.json"))(print_openapi)


def print_openapi() -> None:
    """Print the OpenAPI document of the service with the plugins of these settings."""
    from app.api.application import create_app
    from app.api.openapi import build_openapi

    print_json(build_openapi(create_app(_services(_without_adapters(read_settings())))))


def _without_adapters(settings: "Settings") -> "Settings":
    """Return settings with which nothing is written here: a document needs no key and no file."""
    from pydantic import SecretStr

    from app.config.settings import JwtSettings, RedisSettings, StorageSettings

    jwt = JwtSettings(secret=SecretStr(secrets.token_urlsafe(64)))
    return settings.model_copy(
        update={
            "auth": settings.auth.model_copy(update={"jwt": jwt}),
            "redis": RedisSettings(url=SecretStr("memory://")),
            "storage": StorageSettings(url=SecretStr("memory://")),
        }
    )


def _services(settings: "Settings") -> "ApiServices":
    from app.api.services import ApiServices
    from app.auth.identity import open_identity, open_tokens
    from app.tasks.services import open_services

    core = open_services(settings, transport=_NoTransport())
    tokens = open_tokens(settings)
    identity = open_identity(settings, core.databases, tokens)
    return ApiServices(core=core, identity=identity, tokens=tokens)


class _NoTransport:
    """A queue that nothing is sent to: no request is served."""

    async def send(self, wakeups: "Sequence[Wakeup]") -> frozenset[str]:
        del wakeups
        return frozenset()

    async def send_dead_letter(self, wakeup: "Wakeup", error: Mapping[str, str]) -> bool:
        del wakeup, error
        return False

    async def backlog(self, queues: Sequence[str]) -> Mapping[str, int]:
        del queues
        return {}

    async def levels(self, queues: Sequence[str]) -> "Mapping[str, QueueLevel]":
        del queues
        return {}

    async def ping(self) -> None:
        """Nothing has to answer."""

    async def close(self) -> None:
        """Nothing is open."""
