"""HEAD for every path that has GET: the same headers, no body."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

IS_HEAD = "taskyard.is_head"


class HeadMiddleware:
    """Runs HEAD as GET and keeps the body back (RFC 9110, section 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; the scope is copied, so the log still says HEAD."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # An endless answer has to end by itself: nobody reads on until it does.
        asked = {**scope, "method": "GET", IS_HEAD: True}
        await self.app(asked, receive, send_without_body)
