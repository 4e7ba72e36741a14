"""A child process ends with its main process: nobody would beat the leases of its runs."""

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
# The process that has imported this first; its children are forks of it.
_MAIN: Final = os.getpid()


def end_with_main_process() -> None:
    """Let the kernel kill this child when its main process ends, however it ends; Linux only.

    It would go on after the lease of its run has run out, beside the run's next attempt or the
    next holder of its limit. Elsewhere than on Linux it does, until the run ends.
    """
    if os.getpid() == _MAIN or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != _MAIN:  # It has ended before it was asked for.
        os.kill(os.getpid(), signal.SIGKILL)
