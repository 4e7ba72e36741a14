"""Structured logs: one JSON line each outside a terminal, coloured text on one.

structlog formats; the standard library carries, so the lines of uvicorn, Celery
and SQLAlchemy have the same shape as ours.
"""

import json
import logging
import logging.config
import sys
from collections.abc import MutableMapping
from typing import Any, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.common.redaction import mask_text, redact

# Libraries that log what users sent (sqlfluff prints whole SQL texts at INFO) or a line a second.
_QUIET = {
    "sqlfluff": "WARNING",
    "amqp": "WARNING",
    "kombu": "WARNING",
    "celery.worker.strategy": "WARNING",
    "celery.app.trace": "WARNING",
    "celery.bootsteps": "WARNING",
    "aiosqlite": "WARNING",
    "asyncio": "WARNING",
    "alembic": "WARNING",
    "app.db.faults": "WARNING",
    "httpx2": "WARNING",
    "httpcore2": "WARNING",
    "uvicorn.access": "WARNING",
}


def configure_logging(level: str = "INFO", format: str = "auto") -> None:  # noqa: A002 - the setting's name
    """Send every log line of the process to standard error; `format` is auto, json or console."""
    as_json = format == "json" or (format == "auto" and not sys.stderr.isatty())
    shared = _shared_processors()
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=_final_processors(as_json=as_json)
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quiet_level in _QUIET.items():
        logging.getLogger(name).setLevel(quiet_level)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module; context variables (trace id, task) come by themselves."""
    return cast("structlog.stdlib.BoundLogger", structlog.get_logger(name))


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _final_processors(*, as_json: bool) -> list[Processor]:
    if as_json:
        # Frame locals would print secrets, so tracebacks come without them.
        tracebacks = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        return [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.ExceptionRenderer(tracebacks),
            _redact,
            structlog.processors.JSONRenderer(serializer=_dump),
        ]
    return [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        _redact,
        structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        ),
        # Tracebacks and objects become text only here.
        lambda _logger, _method, line: mask_text(str(line)),
    ]


def _redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    exc_info = event.pop("exc_info", None)
    clean = cast("MutableMapping[str, Any]", redact(event))
    if exc_info is not None:
        clean["exc_info"] = exc_info
    return clean


def _dump(value: object, **_: object) -> str:
    try:
        return orjson.dumps(value, default=_shown, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        # A lone surrogate or an integer beyond 64 bits: escaped, so that no line is lost.
        return json.dumps(value, default=_shown, skipkeys=True)


def _shown(value: object) -> str:
    return mask_text(repr(value))
