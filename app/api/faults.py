"""Where a fault stands: services name the field, the API names the body around it."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.common.errors import TaskyardError


@contextmanager
def in_body() -> Iterator[None]:
    """Put `body` before the place of every field that a service finds wrong in the block."""
    try:
        yield
    except TaskyardError as error:
        error.errors = tuple(fault._replace(loc=("body", *fault.loc)) for fault in error.errors)
        raise
