"""State machines in the suite: the same steps every time, and not too many of them."""

from hypothesis import HealthCheck, settings


def bounded(*, examples: int, steps: int) -> settings:
    """Return settings under which a failure comes again by itself; some 15 s on an idle machine."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        # The database is slow beside what hypothesis expects of a test.
        suppress_health_check=list(HealthCheck),
    )
