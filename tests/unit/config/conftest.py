from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own: no settings.yaml, no .env and no secrets of the machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("app.config.loading.SECRETS_DIR", tmp_path / "no-secrets")
    return tmp_path
