"""What a service manager does: a program that has ended is started again."""

import threading
from typing import Self

from tests.integration.faults.stack import Program, Stack


class Supervisor:
    """Starts the API, the workers and the beats of a stack again, a moment after they died."""

    def __init__(self, stack: Stack, *, after_seconds: float = 0.5) -> None:
        self.restarts = 0
        self._stack = stack
        self._after_seconds = after_seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(self._after_seconds):
            for program in self._programs():
                if not program.is_running:
                    self.restarts += 1
                    program.start()

    def _programs(self) -> list[Program]:
        return [self._stack.api, *self._stack.workers, *self._stack.beats]
