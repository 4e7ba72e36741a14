"""Times in bodies and queries: RFC 3339 with a zone in, UTC with a ``Z`` out."""

import re
from datetime import UTC, datetime
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    PlainSerializer,
    WithJsonSchema,
)

from app.common.clock import rfc3339

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def _read_moment(value: object) -> object:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or not _RFC3339.fullmatch(value):
        message = "Input should be an RFC 3339 date and time with a zone, like 2026-01-31T12:00:00Z"
        raise ValueError(message)
    return datetime.fromisoformat(value)


def _to_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        message = "Input should lie between the years 1 and 9999 in UTC"
        raise ValueError(message) from None


# Pydantic alone would also read numbers, dates without a time and times without a zone.
Moment = Annotated[
    AwareDatetime,
    BeforeValidator(_read_moment),
    AfterValidator(_to_utc),
    PlainSerializer(rfc3339, when_used="json-unless-none"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
