"""Versions are compared by their numbers."""

import pytest

from app.common.findings import is_older


@pytest.mark.parametrize(
    ("version", "minimum", "older"),
    [
        ("15.20 (Debian 15.20-0+deb12u1)", (15,), False),
        ("14.9", (15,), True),
        ("3.10.8", (3, 10), False),
        ("3.9.27", (3, 10), True),
        ("10.11.6-MariaDB-1", (10, 11), False),
        ("10.6.1-MariaDB", (10, 11), True),
        ("4.1.0-rc.2", (3, 10), False),
        ("8", (8,), False),
        ("unknown", (1,), True),
    ],
)
def test_a_version_is_older_by_its_numbers(
    version: str, minimum: tuple[int, ...], older: bool
) -> None:
    assert is_older(version, minimum) is older
