"""Mounting routers: each route is copied into the door's route class, wherever it was declared.

The copies stand side by side in the application, not in a tree of included
routers, so that a route knows its full path (labels of metrics and logs).
"""

from types import ModuleType
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, RouteContext, iter_route_contexts
from starlette.routing import Match
from starlette.types import Scope

from app.api.door import DoorRoute, PublicRoute, is_public
from app.config.plugins import LoadedPlugin, PluginLoadError

API_PREFIX = "/api/v1"
_COPIED = (
    "status_code",
    "tags",
    "dependencies",
    "summary",
    "description",
    "response_description",
    "responses",
    "deprecated",
    "methods",
    "response_model_include",
    "response_model_exclude",
    "response_model_by_alias",
    "response_model_exclude_unset",
    "response_model_exclude_defaults",
    "response_model_exclude_none",
    "response_class",
    "name",
    "callbacks",
    "openapi_extra",
)


def mount_core(app: FastAPI, router: APIRouter, prefix: str = API_PREFIX) -> None:
    """Add the routes of the core; those marked `public` need no token."""
    for context in iter_route_contexts(router.routes):
        route_class = PublicRoute if is_public(context.endpoint) else DoorRoute
        _add(app, context, prefix, route_class, in_schema=context.include_in_schema)


def mount_plugin(app: FastAPI, plugin: LoadedPlugin) -> None:
    """Add the routes of a plugin behind authentication, which it can narrow and never remove.

    `router` goes under `/api/v1`; the older paths of `root_router` stay out of
    the OpenAPI document, where operation ids are unique. Raises PluginLoadError.
    """
    module = plugin.load("routes")
    if module is None:
        return
    _mount_router(app, plugin, _router(module, plugin, "router"), API_PREFIX, in_schema=True)
    if hasattr(module, "root_router"):
        _mount_router(app, plugin, _router(module, plugin, "root_router"), "", in_schema=False)


def allowed_methods(app: FastAPI, scope: Scope) -> set[str]:
    """Return the methods of every route that has the path; Starlette names the first one's only."""
    methods: set[str] = set()
    for route in app.router.routes:
        if isinstance(route, APIRoute) and route.matches(scope)[0] is not Match.NONE:
            methods |= route.methods or set()
    return methods | {"HEAD"} if "GET" in methods else methods


def _mount_router(
    app: FastAPI, plugin: LoadedPlugin, router: APIRouter, prefix: str, *, in_schema: bool
) -> None:
    for context in iter_route_contexts(router.routes):
        if not isinstance(context.original_route, APIRoute) or context.endpoint is None:
            raise _refusal(
                plugin, context, "only HTTP routes declared on an APIRouter can be authenticated"
            )
        if is_public(context.endpoint):
            raise _refusal(plugin, context, "a plugin's route cannot be public")
        taken = _taken(app, f"{prefix}{context.path}", context.methods or set())
        if taken:
            raise _refusal(plugin, context, f"{taken} is there already")
        _add(app, context, prefix, DoorRoute, in_schema=in_schema and context.include_in_schema)


def _add(
    app: FastAPI,
    context: RouteContext,
    prefix: str,
    route_class: type[DoorRoute],
    *,
    in_schema: bool,
) -> None:
    options: dict[str, Any] = {name: getattr(context, name) for name in _COPIED}
    if context.stream_item_type is None:
        # Of a stream FastAPI reads the item type itself, and only when no model is given.
        options["response_model"] = context.response_model
    path = f"{prefix}{context.path}"
    endpoint = context.endpoint
    assert endpoint is not None  # noqa: S101 - an API route has one
    app.router.add_api_route(
        path,
        endpoint,
        route_class_override=route_class,
        include_in_schema=in_schema,
        generate_unique_id_function=_operation_id,
        form_limits=getattr(context.original_route, "form_limits", None),
        **options,
    )
    added = app.router.routes[-1]
    assert isinstance(added, DoorRoute)  # noqa: S101 - it was made with this class
    added.body_limit = context.max_body_size
    if "{" not in path:
        app.state.literal_paths.add(path)


def _operation_id(route: APIRoute) -> str:
    return route.name


def _router(module: ModuleType, plugin: LoadedPlugin, name: str) -> APIRouter:
    router = getattr(module, name, None)
    if not isinstance(router, APIRouter):
        raise PluginLoadError(
            f"The plugin '{plugin.name}': '{name}' in {module.__name__} is not an APIRouter.",
            hint=f"Add: {name} = APIRouter()",
        )
    return router


def _refusal(plugin: LoadedPlugin, context: RouteContext, reason: str) -> PluginLoadError:
    return PluginLoadError(f"The plugin '{plugin.name}' cannot mount {context.path}: {reason}.")


def _taken(app: FastAPI, path: str, methods: set[str]) -> str | None:
    for route in app.router.routes:
        if isinstance(route, APIRoute) and route.path == path:
            both = (route.methods or set()) & methods
            if both:
                return f"{'/'.join(sorted(both))} {path}"
    return None
