"""The path below which a reverse proxy shows this service, whether it strips that path or not."""

from starlette.types import ASGIApp, Receive, Scope, Send


class RootPathMiddleware:
    """Puts `server.root_path` into every request's scope; links and routing read it there."""

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path.rstrip("/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; a root path that the server itself was given stays."""
        if scope["type"] == "http" and self.root_path and not scope.get("root_path"):
            scope["root_path"] = self.root_path
        await self.app(scope, receive, send)
