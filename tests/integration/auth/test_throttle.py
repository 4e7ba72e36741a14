"""The brake on wrong logins is shared by all processes through Redis."""

import pytest

from app.auth.errors import TooManyLogins
from app.auth.throttle import LoginThrottle
from tests.services import Services


async def test_t11_processes_share_the_count(services: Services) -> None:
    account, address = f"user:{services.token}", f"address-{services.token}"
    first, second = (LoginThrottle(4, services.redis_url) for _ in range(2))
    for throttle in (first, second, first, second):
        await throttle.enter(account, address)
    for throttle in (first, second):
        with pytest.raises(TooManyLogins):
            await throttle.enter(account, address)
    await second.succeeded(account)
    await first.enter(account, address)
    await first.succeeded(account)
