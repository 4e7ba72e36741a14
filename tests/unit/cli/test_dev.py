"""`taskyard dev`: where it keeps what it keeps."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import create_cli, development
from app.config import Settings

VARIABLE = "TASKYARD_DATA_DIR"
# What `--reload` tells the process that serves.
TOLD = (VARIABLE, "TASKYARD_SERVER__HOST", "TASKYARD_SERVER__PORT")


class HasStarted(Exception):
    """Everything before the first migration went well."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings with which the command would serve."""
    seen: list[Settings] = []

    def prepare(settings: Settings, address: str) -> None:
        seen.append(settings)
        raise HasStarted(address)

    monkeypatch.setattr(development, "_prepare", prepare)
    return seen


@pytest.mark.usefixtures("taskyard")
@pytest.mark.parametrize("reload", [[], ["--reload"]])
@pytest.mark.parametrize(
    ("variable", "option", "folder"),
    [(None, None, ".taskyard"), ("from-env", None, "from-env"), ("from-env", "given", "given")],
)
def test_the_option_goes_before_the_setting(
    monkeypatch: pytest.MonkeyPatch,
    started: list[Settings],
    variable: str | None,
    option: str | None,
    folder: str,
    reload: list[str],
) -> None:
    for name in TOLD:
        monkeypatch.setenv(name, "")  # So that it is taken back whatever the command does.
        monkeypatch.delenv(name)
    if variable is not None:
        monkeypatch.setenv(VARIABLE, variable)
    arguments = ["--data-dir", option] if option else []
    result = CliRunner().invoke(create_cli(), ["dev", "--port", "0", *arguments, *reload])
    assert isinstance(result.exception, HasStarted), result.output
    assert [settings.data_dir for settings in started] == [Path(folder)]
