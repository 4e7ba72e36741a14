"""The own `/metrics` of a worker (what its children count, summed) and of a beat."""

import os
import tempfile

MULTIPROCESS_DIR = "PROMETHEUS_MULTIPROC_DIR"


def prepare(port: int | None) -> None:
    """Make the children share their counts; call it before anything imports `app.common.metrics`.

    The library decides at its import whether values live in the process or in shared files.
    """
    if port is not None and MULTIPROCESS_DIR not in os.environ:
        os.environ[MULTIPROCESS_DIR] = tempfile.mkdtemp(prefix="taskyard-metrics-")


def serve(port: int | None, host: str) -> None:
    """Serve the metrics of this process and its children from a thread; nothing without a port."""
    if port is None:
        return
    from prometheus_client import CollectorRegistry, start_http_server  # noqa: PLC0415 - see `prepare`
    from prometheus_client.multiprocess import MultiProcessCollector  # noqa: PLC0415 - see `prepare`

    registry = CollectorRegistry()
    MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # the library's own gap
    start_http_server(port, addr=host, registry=registry)


def serve_own(port: int | None, host: str) -> None:
    """Serve the metrics of a process without children from a thread; nothing without a port."""
    if port is not None:
        from prometheus_client import start_http_server  # noqa: PLC0415 - see `prepare`

        start_http_server(port, addr=host)
