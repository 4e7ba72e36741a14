"""`python -m bench.peers MODULE serve` and `… worker PROFILE`: see `bench.peers.adapter`."""

import importlib
import os
import sys

from bench.peers.adapter import Adapter, serve


def main() -> None:
    """Import the adapter under its own name, as the peer's worker does, and do what is asked."""
    module, action, *more = sys.argv[1:]
    adapter: Adapter = importlib.import_module(module).open_adapter()
    if action == "worker":
        command = list(adapter.worker(*more))
        os.execv(command[0], command)  # noqa: S606 - a program of this environment
    serve(adapter)


main()
