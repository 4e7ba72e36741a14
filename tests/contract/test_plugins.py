"""Every built-in plugin keeps the contract that `app.testing` checks for anybody's plugin."""

import pytest

from app.config.settings import Settings
from app.testing import check_plugin


@pytest.mark.parametrize("name", Settings().plugins)
def test_a_built_in_plugin_keeps_the_contract(name: str) -> None:
    check_plugin(name)
