"""A broker that is gone, frozen or cut off: sends are bounded, honest and never block the loop."""

import asyncio

import pytest

from app.celery_worker.connections import BrokerUnavailable
from app.celery_worker.publisher import BlockingPublisher, ThreadPublisher
from tests.integration.celery_worker.conftest import ProxiedBroker

Kind = type[BlockingPublisher | ThreadPublisher]
both = pytest.mark.parametrize("kind", [BlockingPublisher, ThreadPublisher])


@both
async def test_a_broker_that_is_gone_confirms_nothing_and_raises_nothing(
    proxied: ProxiedBroker, kind: Kind
) -> None:
    proxied.proxy.refuse()
    transport = kind(proxied.settings)
    try:
        wakeups = proxied.wakeups(3)
        assert await transport.send(wakeups) == frozenset()
        assert await transport.send_dead_letter(wakeups[0], {}) is False
        assert await transport.backlog(["default"]) == {}
        with pytest.raises(BrokerUnavailable):
            await transport.ping()
    finally:
        await transport.close()


@both
async def test_a_connection_that_was_cut_costs_no_message(
    proxied: ProxiedBroker, kind: Kind
) -> None:
    transport = kind(proxied.settings)
    try:
        first, second = proxied.wakeups(5), proxied.wakeups(5)
        assert len(await transport.send(first)) == 5
        proxied.proxy.cut()
        sent = await transport.send(second)
        assert sent == {wakeup.run_id for wakeup in second}
        assert sent <= proxied.ids_on_queue()
    finally:
        await transport.close()


@both
async def test_a_broker_that_comes_back_is_used_again(proxied: ProxiedBroker, kind: Kind) -> None:
    transport = kind(proxied.settings)
    try:
        proxied.proxy.refuse()
        assert await transport.send(proxied.wakeups(1)) == frozenset()
        proxied.proxy.accept()
        wakeups = proxied.wakeups(4)
        async with asyncio.timeout(20):
            while not (sent := await transport.send(wakeups)):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.05)
        assert sent == {wakeup.run_id for wakeup in wakeups}
    finally:
        await transport.close()


@both
async def test_a_frozen_broker_ends_the_wait_and_confirms_nothing(
    proxied: ProxiedBroker, kind: Kind
) -> None:
    transport = kind(proxied.settings)
    try:
        assert await transport.send(proxied.wakeups(1))
        proxied.proxy.freeze()
        async with asyncio.timeout(15):
            assert await transport.send(proxied.wakeups(2)) == frozenset()
            # Now also without a connection: the handshake never ends.
            assert await transport.send(proxied.wakeups(2)) == frozenset()
            with pytest.raises(BrokerUnavailable):
                await transport.ping()
    finally:
        await transport.close()


async def test_the_loop_runs_on_while_the_broker_is_frozen(proxied: ProxiedBroker) -> None:
    transport = ThreadPublisher(proxied.settings)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.005)
            ticks += 1

    try:
        await transport.send(proxied.wakeups(1))
        proxied.proxy.freeze()
        ticking = asyncio.create_task(tick())
        answers = await asyncio.gather(*(transport.send(proxied.wakeups(1)) for _ in range(20)))
        ticking.cancel()
    finally:
        await transport.close()
    assert answers == [frozenset()] * 20
    # One second of waiting: a blocked loop would not have ticked at all.
    assert ticks > 20


async def test_confirmed_means_present_when_the_connection_dies_in_a_batch(
    proxied: ProxiedBroker,
) -> None:
    transport = ThreadPublisher(proxied.settings)
    wakeups = proxied.wakeups(3000)
    try:
        await transport.send(wakeups[:1])
        sending = asyncio.create_task(transport.send(wakeups))
        await asyncio.sleep(0.05)
        proxied.proxy.cut()
        sent = await sending
    finally:
        await transport.close()
    assert sent <= proxied.ids_on_queue()
