"""Bad input once more on Postgres, which is stricter about text and numbers than SQLite."""

from tests.contract.api.test_bad_input import (
    nothing_is_left_behind,
    test_a_bad_body_is_refused,
    test_a_bad_query_is_422,
    test_an_odd_path_is_404,
    test_odd_text_in_a_query_is_only_text,
)

__all__ = [
    "nothing_is_left_behind",
    "test_a_bad_body_is_refused",
    "test_a_bad_query_is_422",
    "test_an_odd_path_is_404",
    "test_odd_text_in_a_query_is_only_text",
]
