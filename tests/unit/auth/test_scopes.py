"""Roles, scopes, and how a token is narrowed."""

import pytest

from app.auth.errors import InvalidScope
from app.auth.principal import Principal
from app.auth.scopes import (
    ADMIN,
    OPERATOR,
    ROLES,
    VIEWER,
    granted_scopes,
    is_scope,
    narrow,
    scope_text,
    still_granted,
)


def principal(*scopes: str) -> Principal:
    return Principal(id="1", name="x", kind="user", role="x", scopes=frozenset(scopes))


def test_each_role_holds_what_the_one_before_holds() -> None:
    assert VIEWER < OPERATOR < ADMIN
    assert list(ROLES) == ["viewer", "operator", "admin"]
    assert not any(one.endswith((":run", ":manage")) for one in VIEWER)
    assert "users:manage" not in OPERATOR
    assert granted_scopes("unknown") == frozenset()


def test_admin_stands_for_every_scope() -> None:
    assert principal("admin").allows("lint:run")
    assert principal("lint:run").allows("lint:run")
    assert not principal("lint:run").allows("lint:runs")
    assert not principal().allows("")


@pytest.mark.parametrize("requested", [None, "", " "])
def test_without_a_request_all_is_granted(requested: str | None) -> None:
    assert narrow(OPERATOR, requested) == OPERATOR


def test_a_request_narrows() -> None:
    assert narrow(OPERATOR, "tasks:run  tasks:read") == {"tasks:run", "tasks:read"}
    assert narrow(ADMIN, "lint:run") == {"lint:run"}
    for requested in ("admin", "lint:run", "tasks:run users:manage", "TASKS:RUN", "tasks:run\n"):
        with pytest.raises(InvalidScope):
            narrow(OPERATOR, requested)


def test_what_was_taken_away_is_lost() -> None:
    assert still_granted(VIEWER, ADMIN) == VIEWER
    assert still_granted(ADMIN, frozenset({"lint:run"})) == {"lint:run"}
    assert still_granted(OPERATOR, frozenset({"lint:run", "tasks:run"})) == {"tasks:run"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tasks:run", True),
        ("a.b_c-d:e", True),
        ("admin", True),
        ("tasks", False),
        ("tasks:", False),
        (":run", False),
        ("tasks:run ", False),
        ("tasks:run\n", False),
        ("a:b:c", False),
        ("*", False),
        ("ä:b", False),
        ("a:" + "b" * 64, False),
    ],
)
def test_a_scope_is_area_and_action(text: str, expected: bool) -> None:
    assert is_scope(text) is expected


def test_scopes_are_written_sorted() -> None:
    assert scope_text({"b:b", "a:a"}) == "a:a b:b"
