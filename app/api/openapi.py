"""The OpenAPI document: errors as problem+json, tokens, and the scopes that each route asks for."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from pydantic.json_schema import models_json_schema

from app.api.dependencies import Requires
from app.api.door import DoorRoute
from app.api.problems import PROBLEM_JSON, Problem

TOKEN_PATH = "/api/v1/auth/token"  # noqa: S105 - a path
_REF = "#/components/schemas/{model}"
_PROBLEM = {PROBLEM_JSON: {"schema": {"$ref": _REF.format(model="Problem")}}}
_SECURITY: list[dict[str, list[str]]] = [{"bearer": []}, {"password": []}]
_VALIDATION_MODELS = ("HTTPValidationError", "ValidationError")


def build_openapi(app: FastAPI, root_path: str = "") -> dict[str, Any]:
    """Return the document of all mounted routes, as seen below the root path."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _VALIDATION_MODELS:
        schemas.pop(name, None)
    _, problem = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas.update(problem["$defs"])
    document["components"]["securitySchemes"] = _security_schemes(app, root_path)
    if root_path:
        document["servers"] = [{"url": root_path}]
    for route in app.routes:
        if isinstance(route, DoorRoute) and route.include_in_schema:
            for method in route.methods or ():
                _complete(document["paths"][route.path_format][method.lower()], route)
    return document


def required_scopes(route: DoorRoute) -> list[str]:
    """Return the scopes that the route's dependencies ask for, sorted."""
    return sorted(set(_scopes(route.dependant)))


def _complete(operation: dict[str, Any], route: DoorRoute) -> None:
    responses: dict[str, Any] = operation["responses"]
    for status, meaning in _errors(route).items():
        responses.setdefault(status, {"description": meaning})
    for status, response in responses.items():
        if status == "default" or status >= "400":
            response["content"] = _PROBLEM
    if route.needs_token:
        operation["security"] = _SECURITY
        operation["x-required-scopes"] = required_scopes(route)


def _errors(route: DoorRoute) -> dict[str, str]:
    found = {"default": "Any other error, as a problem document"}
    if route.needs_token:
        found |= {"401": "No valid access token"}
        if required_scopes(route):
            found |= {"403": "A scope is missing"}
    if route.param_convertors:
        found |= {"404": "Not found, or not visible to the caller"}
    if route.body_field:
        found |= {
            "400": "The body cannot be read",
            "413": "The body is too large",
            "415": "Wrong content type",
        }
    return found


def _scopes(dependant: Dependant) -> Iterator[str]:
    if isinstance(dependant.call, Requires):
        yield from dependant.call.scopes
    for dependency in dependant.dependencies:
        yield from _scopes(dependency)


def _security_schemes(app: FastAPI, root_path: str) -> dict[str, Any]:
    scopes = {
        scope
        for route in app.routes
        if isinstance(route, DoorRoute)
        for scope in required_scopes(route)
    }
    return {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "password": {
            "type": "oauth2",
            "flows": {
                "password": {
                    "tokenUrl": f"{root_path}{TOKEN_PATH}",
                    "scopes": {scope: scope for scope in sorted(scopes)},
                }
            },
        },
    }
