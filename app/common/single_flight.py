"""One piece of work at a time per key and event loop; the others wait for its result."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

Result = TypeVar("Result")
_Flights = dict[str, asyncio.Future[Result]]


class SingleFlight(Generic[Result]):
    """The work runs in the first caller's own task, so that it keeps that caller's context."""

    def __init__(self) -> None:
        self._by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, _Flights[Result]] = (
            WeakKeyDictionary()
        )
        self._lock = threading.Lock()

    async def run(self, key: str, work: Callable[[], Awaitable[Result]]) -> Result:
        """Return the work's result, or what it raised, to everybody who asks meanwhile.

        When the first caller is cancelled, one of those who wait does the work anew.
        """
        flights = self._flights()
        while (flight := flights.get(key)) is not None:
            await asyncio.wait({flight})
            if not flight.cancelled():
                return flight.result()
        return await self._lead(flights, key, work)

    async def _lead(
        self, flights: _Flights[Result], key: str, work: Callable[[], Awaitable[Result]]
    ) -> Result:
        flight: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        flights[key] = flight
        try:
            result = await work()
        except asyncio.CancelledError:
            flight.cancel()
            raise
        except BaseException as error:
            flight.set_exception(error)
            # Marks it as seen: there may be nobody else who waits.
            flight.exception()
            raise
        else:
            flight.set_result(result)
            return result
        finally:
            del flights[key]

    def _flights(self) -> _Flights[Result]:
        with self._lock:
            return self._by_loop.setdefault(asyncio.get_running_loop(), {})
