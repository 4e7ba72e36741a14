"""The last net: whatever was raised becomes a problem document, and the log gets the stack."""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import as_taskyard_error, problem_response
from app.common.logging import get_logger

log = get_logger(__name__)


class FailureMiddleware:
    """Answers every exception that no handler took; Starlette's own net answers in plain text."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the request; once an answer has begun an exception can only end the connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, send_and_note)
        except ClientDisconnect:
            log.info("http.client_disconnected")
        except Exception as error:
            _report(error)
            if started:
                raise
            await problem_response(error)(scope, receive, send)


def _report(error: Exception) -> None:
    known = as_taskyard_error(error)
    if known is None:
        log.error("http.unexpected_error", exc_info=error)
    elif known.status >= 500:
        log.warning("http.service_unavailable", error=type(error).__name__, reason=str(error)[:500])
