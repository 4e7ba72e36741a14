from pathlib import Path

import pytest
from pydantic import SecretStr

from app.common.errors import ConfigurationError
from app.config.settings import StorageSettings
from app.storage import Storage, StorageUnavailable, open_storage
from app.storage.asynchronous import AsyncStorage
from app.storage.memory import MemoryStorage


def opened(url: str) -> Storage:
    return open_storage(StorageSettings(url=SecretStr(url)))


async def test_an_absolute_folder(tmp_path: Path) -> None:
    storage = opened(f"file://{tmp_path}/files")
    await storage.put("a", b"x")
    assert (tmp_path / "files/a").read_bytes() == b"x"
    assert storage.local_path("a") == tmp_path / "files/a"
    await storage.close()


async def test_a_folder_below_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".data").mkdir()
    storage = opened("file://.data/files")
    await storage.put("a", b"x")
    assert (tmp_path / ".data/files/a").read_bytes() == b"x"
    await storage.close()


async def test_a_folder_with_odd_characters(tmp_path: Path) -> None:
    storage = opened(f"file://localhost{tmp_path}/with%20space")
    await storage.put("a", b"x")
    assert (tmp_path / "with space/a").exists()
    await storage.close()


async def test_memory() -> None:
    storage = opened("memory://")
    await storage.put("a", b"x")
    assert storage.local_path("a") is None
    assert await opened("memory://").list() == []
    await storage.close()


@pytest.mark.parametrize(
    "url", ["s3://bucket/x", "ftp://h/x", "files", "", "file://", "file:///a?b=c", "file:///a%00b"]
)
def test_a_url_that_no_adapter_serves_stops_the_start(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"storage\.url"):
        opened(url)


class Hanging(MemoryStorage):
    def ping(self) -> None:
        raise TimeoutError


async def test_a_storage_that_does_not_answer_a_ping_is_unavailable() -> None:
    with pytest.raises(StorageUnavailable):
        await AsyncStorage(Hanging()).ping()


async def test_a_reader_reports_a_failing_storage(tmp_path: Path) -> None:
    storage = opened(f"file://{tmp_path}/files")
    await storage.put("a", b"x")
    reader = await storage.open_reader("a")

    class Broken:
        def read(self, length: int) -> bytes:
            raise OSError(5, "Input/output error")

    vars(reader)["_file"].close()
    vars(reader)["_file"] = Broken()
    with pytest.raises(StorageUnavailable):
        await reader.read()
    await storage.close()
