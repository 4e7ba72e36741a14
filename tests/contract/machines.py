"""State machines in the suite: the same steps every time, and not too many of them."""

from hypothesis import HealthCheck, Phase, settings


def bounded(*, examples: int, steps: int) -> settings:
    """Return settings under which a failure comes again by itself; seconds on an idle machine."""
    return settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        # To shrink a failure takes longer than a test may; its steps are few enough to read.
        phases=[Phase.generate],
        # The database is slow beside what hypothesis expects of a test.
        suppress_health_check=list(HealthCheck),
    )
