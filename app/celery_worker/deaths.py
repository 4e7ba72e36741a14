"""Noticing the death of a pool's child when it happens."""

from typing import Any, Final

_LOOK_AGAIN_SECONDS: Final = 0.05
# Then the pool's own look, every five seconds, is left to find it.
_LOOKS: Final = 40


def notice_deaths(worker: Any) -> None:
    """Have a prefork pool look for a dead child until it finds it; other pools have none.

    The pipe of a dying process closes a moment before the process can be waited for. A pool that
    was faster has seen nothing, has stopped watching the pipe, and looks again within five seconds.
    """
    pool: Any = getattr(getattr(worker, "pool", None), "_pool", None)
    if not hasattr(pool, "_event_process_exit"):
        return
    look_once = pool._event_process_exit  # noqa: SLF001 - billiard offers no other way in

    def on_exit(hub: Any, process: Any) -> None:
        look_once(hub, process)
        _look_again(pool, hub, process, _LOOKS)

    track = pool._track_child_process  # noqa: SLF001 - as above

    def track_living(process: Any, hub: Any) -> None:
        # After a reconnect the pool watches its children anew, and one whose end it has seen and
        # not waited for yet has nothing left to watch: that would be the end of the worker.
        if getattr(process, "_sentinel_poll", process) is None:
            _look_again(pool, hub, process, _LOOKS)
        else:
            track(process, hub)

    pool._event_process_exit = on_exit  # noqa: SLF001 - as above
    pool._track_child_process = track_living  # noqa: SLF001 - as above


def _look_again(pool: Any, hub: Any, process: Any, looks: int) -> None:
    if looks > 0 and process in pool._pool:  # noqa: SLF001 - as above
        hub.call_later(_LOOK_AGAIN_SECONDS, _look, pool, hub, process, looks)


def _look(pool: Any, hub: Any, process: Any, looks: int) -> None:
    pool.maintain_pool()
    _look_again(pool, hub, process, looks - 1)
