"""The brake on wrong logins without Redis, or with one that is gone."""

import pytest

from app.auth.errors import TooManyLogins
from app.auth.throttle import ADDRESS_FACTOR, LoginThrottle

ADDRESS = "192.0.2.1"


async def enter_until_refused(throttle: LoginThrottle, account: str, address: str) -> int:
    for attempt in range(1000):
        try:
            await throttle.enter(account, address)
        except TooManyLogins:
            return attempt
    pytest.fail("never refused")


async def test_attempts_are_counted_before_the_password_is_looked_at() -> None:
    throttle = LoginThrottle(3)
    assert await enter_until_refused(throttle, "user:ada", ADDRESS) == 3
    assert await enter_until_refused(throttle, "user:bob", ADDRESS) == 3


async def test_a_success_clears_the_account() -> None:
    throttle = LoginThrottle(2)
    assert await enter_until_refused(throttle, "user:ada", ADDRESS) == 2
    await throttle.succeeded("user:ada")
    assert await enter_until_refused(throttle, "user:ada", ADDRESS) == 2


async def test_failures_close_an_address_but_no_other() -> None:
    throttle = LoginThrottle(2)
    for _ in range(2 * ADDRESS_FACTOR):
        await throttle.failed(ADDRESS)
    with pytest.raises(TooManyLogins) as caught:
        await throttle.enter("user:new", ADDRESS)
    assert f"q={2 * ADDRESS_FACTOR};" in caught.value.headers["RateLimit-Policy"]
    assert 1 <= int(caught.value.headers["Retry-After"]) <= 60
    await throttle.enter("user:new", "192.0.2.2")


@pytest.mark.parametrize("name", ["", "x" * 100_000, "a/b:c", "\ud800", "\x00", "ü"])
async def test_any_name_can_be_counted(name: str) -> None:
    assert await enter_until_refused(LoginThrottle(1), name, name) == 1


async def test_r4_without_its_redis_a_process_counts_for_itself() -> None:
    throttle = LoginThrottle(3, "redis://127.0.0.1:1/0")
    assert await enter_until_refused(throttle, "user:ada", ADDRESS) == 3
    await throttle.succeeded("user:ada")
    await throttle.enter("user:ada", ADDRESS)
