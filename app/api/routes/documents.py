"""The OpenAPI document and its page, which asks no other host for anything."""

import html
from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from app.api.door import public
from app.api.openapi import build_openapi
from app.common.errors import NotFound
from app.common.strict_json import dump_bytes

root_router = APIRouter(include_in_schema=False)

_ASSETS = Path(__file__).parents[1] / "static" / "swagger-ui"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "taskyard-docs.js": "text/javascript",
    "favicon-32x32.png": "image/png",
}
# No inline script. Swagger UI writes style attributes and draws its icons as data: images.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_PAGE = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>{title} API</title>
    <link rel="icon" type="image/png" href="docs/favicon-32x32.png">
    <link rel="stylesheet" href="docs/swagger-ui.css">
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/swagger-ui-bundle.js"></script>
    <script src="docs/taskyard-docs.js"></script>
  </body>
</html>
"""


@root_router.get("/openapi.json")
@public
async def get_openapi_document(request: Request) -> Response:
    """Return the OpenAPI 3.1 document; it is built once."""
    app = request.app
    if not app.openapi_schema:
        app.openapi_schema = build_openapi(app, request.scope.get("root_path", ""))
    return Response(dump_bytes(app.openapi_schema), media_type="application/json")


@root_router.get("/docs")
@public
async def show_docs(request: Request) -> Response:
    """Return the page; its references are relative, so that it works below any root path."""
    page = _PAGE.format(title=html.escape(request.app.title))
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})


@root_router.get("/docs/{asset}")
@public
async def get_docs_asset(asset: str) -> Response:
    """Return one of the page's own files."""
    if asset not in _MEDIA_TYPES:
        raise NotFound
    return FileResponse(
        _ASSETS / asset,
        media_type=_MEDIA_TYPES[asset],
        headers={"Cache-Control": "public, max-age=3600", "Content-Security-Policy": _POLICY},
    )
