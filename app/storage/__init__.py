"""Files: one port, adapters by URL, and the only reader of ZIP archives."""

from app.storage.errors import (
    StorageConflict,
    StorageKeyError,
    StorageNotFound,
    StorageTooLarge,
    StorageUnavailable,
)
from app.storage.factory import open_storage
from app.storage.keys import check_key, check_prefix
from app.storage.port import Storage, StorageReader, StorageWriter, SyncStorage

__all__ = [
    "Storage",
    "StorageConflict",
    "StorageKeyError",
    "StorageNotFound",
    "StorageReader",
    "StorageTooLarge",
    "StorageUnavailable",
    "StorageWriter",
    "SyncStorage",
    "check_key",
    "check_prefix",
    "open_storage",
]
