"""A plugin's routes behind the real door. Loads the web framework, so it is imported on use."""

import re
from collections.abc import Iterator
from typing import Any

from app.api.openapi import build_openapi
from app.common.errors import TaskyardError
from app.config.plugins import LoadedPlugin
from app.testing.checks.fault import Fault
from app.testing.http import open_http
from app.testing.kit import Kit


def check_routes(plugin: LoadedPlugin, kit: Kit) -> Iterator[Fault]:
    """Yield routes that cannot be mounted, described or that answer without a token."""
    where = f"{plugin.module}.routes"
    try:
        with open_http(kit) as http:
            build_openapi(http.app)
            for method, path in _routes_of(http.app, plugin):
                status = http.request(method, path, role=None).status_code
                if status != 401:
                    yield Fault(
                        "routes",
                        where,
                        f"{method} {path} answers {status} without a token.",
                        "Declare it on `router` or `root_router`, which the core mounts.",
                    )
    except (TaskyardError, ValueError, TypeError) as error:
        cure = getattr(error, "hint", None) or "The message names the route and what is wrong."
        yield Fault("routes", where, str(error), cure)


def _routes_of(app: Any, plugin: LoadedPlugin) -> Iterator[tuple[str, str]]:
    for route in app.router.routes:
        endpoint = getattr(route, "endpoint", None)
        if f"{getattr(endpoint, '__module__', '')}.".startswith(f"{plugin.module}."):
            for method in sorted(route.methods):
                yield method, re.sub(r"\{[^}]+\}", "1", route.path)
