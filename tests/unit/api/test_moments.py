from datetime import UTC, datetime

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError

from app.api.moments import Moment


class Holder(BaseModel):
    model_config = ConfigDict(strict=True)

    at: Moment


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.123456Z", "2026-01-31T12:00:00.123456Z"),
        ("2026-01-31T12:00:00+02:00", "2026-01-31T10:00:00.000000Z"),
    ],
)
def test_rfc_3339_comes_in_and_utc_goes_out(text: str, shown: str) -> None:
    holder = Holder(at=text)  # type: ignore[arg-type]  # what a body holds before it is read
    assert holder.at.tzinfo is UTC
    assert holder.model_dump(mode="json") == {"at": shown}


def test_a_datetime_of_our_own_passes() -> None:
    moment = datetime(2026, 1, 31, tzinfo=UTC)
    assert Holder(at=moment).at == moment


@pytest.mark.parametrize(
    "value",
    [
        "9999-99-99",
        "9999-99-99T00:00:00Z",
        "10000-01-01T00:00:00Z",
        "2026-01-31",
        "2026-01-31T12:00:00",
        "2026-01-31 12:00:00Z",
        "2026-W05-6T12:00:00Z",
        "1769860800.5",
        1769860800,
        1.5,
        True,
        None,
        "0001-01-01T00:00:00+14:00",
        "9999-12-31T23:59:59-14:00",
        "2026-01-31T12:00:00+99:99",
        "",
        "\u0660" * 4,
    ],
)
def test_whatever_else_is_refused(value: object) -> None:
    with pytest.raises(ValidationError):
        Holder(at=value)  # type: ignore[arg-type]  # wrong on purpose


def test_the_schema_says_date_time() -> None:
    assert Holder.model_json_schema()["properties"]["at"]["format"] == "date-time"
