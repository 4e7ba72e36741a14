"""Rates and keys as authors write them, and the errors that they get."""

from typing import Any

import pytest
from pydantic import BaseModel

from app import register_task
from app.tasks.errors import TaskDeclarationError
from app.tasks.limits import Limits
from app.tasks.rates import Rate, read_rate
from app.tasks.registry import spec_of


class Address(BaseModel):
    """A place to call."""

    host: str
    port: int = 80


def limits_of(**options: Any) -> Limits:
    def declared(host: str, port: int = 80, address: Address | None = None) -> None:
        """Call a host."""

    register_task("test.call", **options)(declared)
    limits = spec_of(declared, "test").limits
    assert limits is not None
    return limits


def key(template: str, **arguments: Any) -> str:
    limits = limits_of(max_concurrency=1, concurrency_key=template)
    return limits.key_of({"host": "a", "port": 80, "address": None, **arguments})


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/m", Rate(100, 60)), ("1/s", Rate(1, 1)), ("5/h", Rate(5, 3600))],
)
def test_a_rate_is_read(text: str, rate: Rate) -> None:
    assert read_rate(text) == rate


@pytest.mark.parametrize("text", ["", "100", "0/m", "1/d", "1.5/s", "-1/s", "1/m ", "1 / m", 7])
def test_what_is_no_rate_is_refused(text: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="rate_limit"):
        limits_of(rate_limit=text)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "1"])
def test_what_is_no_number_of_slots_is_refused(number: Any) -> None:
    with pytest.raises(TaskDeclarationError, match="max_concurrency"):
        limits_of(max_concurrency=number)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("host", "test.call:a"),
        ("port", "test.call:80"),
        ("{host}:{port}", "test.call:a:80"),
        ("of {host}", "test.call:of a"),
        ("{{{host}}}", "test.call:{a}"),
        ("address", "test.call:null"),
    ],
)
def test_a_key_is_made_of_parameters(template: str, expected: str) -> None:
    assert key(template) == expected


def test_a_key_of_a_model_is_its_json() -> None:
    assert key("address", address=Address(host="b")) == 'test.call:{"host":"b","port":80}'


def test_a_long_key_is_a_digest_that_differs() -> None:
    one, other = key("host", host="a" * 1000), key("host", host="a" * 1001)
    assert one != other
    assert len(one) < 300
    assert one.startswith("test.call:")


def test_without_a_key_the_whole_task_is_bounded() -> None:
    assert limits_of(rate_limit="1/s").key_of({"host": "a"}) == "test.call"


@pytest.mark.parametrize(
    "template", ["customer", "{customer}", "{}", "{host", "{host.name}", "{host!r}", "{port:>4}"]
)
def test_a_key_that_cannot_be_made_stops_the_boot(template: str) -> None:
    with pytest.raises(TaskDeclarationError) as caught:
        limits_of(max_concurrency=1, concurrency_key=template)
    assert "concurrency_key" in caught.value.detail
    assert caught.value.hint is not None
    assert "host, port, address" in caught.value.hint


def test_a_key_without_a_limit_is_refused() -> None:
    with pytest.raises(TaskDeclarationError, match="neither max_concurrency nor rate_limit"):
        limits_of(concurrency_key="host")
