"""What can go wrong with files, as the caller sees it."""

from app.common.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, ServiceUnavailable


class StorageKeyError(BadRequest):
    """The file's key is not a plain relative path below the storage root."""

    code = "STORAGE_KEY_INVALID"
    title = "Not a storage key"


class StorageNotFound(NotFound):
    """There is no file with this key on the storage."""

    code = "STORAGE_NOT_FOUND"
    title = "File not found"


class StorageConflict(Conflict):
    """The key is taken, or a file stands where a folder is needed."""

    code = "STORAGE_CONFLICT"
    title = "Key is taken"


class StorageTooLarge(PayloadTooLarge):
    """The file is larger than its limit; nothing of it was kept."""

    code = "STORAGE_TOO_LARGE"
    title = "File too large"


class StorageUnavailable(ServiceUnavailable):
    """The storage is full, read-only, missing or failing; nothing was half written."""

    code = "STORAGE_UNAVAILABLE"
    title = "Storage unavailable"
