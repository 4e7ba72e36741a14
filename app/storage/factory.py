"""The URL picks the adapter."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from app.common.errors import ConfigurationError
from app.config.settings import StorageSettings
from app.storage.asynchronous import AsyncStorage
from app.storage.local import LocalStorage
from app.storage.memory import MemoryStorage
from app.storage.port import Storage, SyncStorage


def open_storage(settings: StorageSettings, *, threads: bool = True) -> Storage:
    """Return the storage of `storage.url`; ConfigurationError for a URL that no adapter serves.

    `threads=False` makes the asyncio form run its calls at once on the calling
    thread: for a worker child, which has one task at a time and no threads.
    Nothing is touched here: a missing mount shows as StorageUnavailable on use.
    """
    return AsyncStorage(_adapter(settings.url.get_secret_value()), threads=threads)


def _adapter(url: str) -> SyncStorage:
    scheme = url.partition("://")[0].lower()
    if scheme == "memory":
        return MemoryStorage()
    if scheme == "file":
        return LocalStorage(_folder(url))
    if scheme == "s3":
        raise ConfigurationError(
            "storage.url names S3, which this version has no adapter for.",
            hint="Use a folder that all processes share: file:///mnt/...",
        )
    raise ConfigurationError(
        f"storage.url has the scheme '{scheme}', which no adapter serves.",
        hint="Use file:///absolute/folder, file://relative/folder, or memory:// in tests.",
    )


def _folder(url: str) -> Path:
    parts = urlsplit(url)
    # In file://.taskyard/files the first part of a relative folder stands where a host would.
    host = "" if parts.netloc == "localhost" else parts.netloc
    folder = unquote(host + parts.path)
    if not folder or "\x00" in folder or parts.query or parts.fragment:
        raise ConfigurationError(
            "storage.url does not name a folder.", hint="Use file:///absolute/folder."
        )
    return Path(folder)
