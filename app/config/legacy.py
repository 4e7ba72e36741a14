"""The variable names of the systems that Taskyard takes the place of; each still works."""

from collections.abc import Mapping
from typing import Any

_OLDER: dict[str, tuple[str, ...]] = {
    "DATABASE_URL": ("databases", "mysql_lint", "url"),
    "CELERY_BROKER_URL": ("celery", "broker_url"),
    "CELERY_RESULT_BACKEND": ("celery", "result_backend"),
    "NFS_SHARE_ROOT_PATH": ("storage", "url"),
    "CONSUL_HOST": ("consul", "host"),
    "CONSUL_PORT": ("consul", "port"),
    "MAX_UPLOAD_SIZE_MB": ("limits", "max_upload_mb"),
    "ALLOWED_UPLOAD_TYPES": ("limits", "allowed_upload_types"),
    "SQL_EXECUTION_TIMEOUT": ("limits", "sql_execution_timeout_seconds"),
    "SQL_MAX_RESULT_ROWS": ("limits", "sql_max_result_rows"),
}


def older_names(environ: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that the older variables give, as a nested map."""
    values: dict[str, Any] = {}
    for name, path in _OLDER.items():
        if text := environ.get(name):
            place = values
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = _convert(name, text)
    return values


def _convert(name: str, text: str) -> object:
    if name == "NFS_SHARE_ROOT_PATH":
        return text if "://" in text else f"file://{text}"
    if name == "ALLOWED_UPLOAD_TYPES":
        return [part.strip().lower().lstrip(".") for part in text.split(",") if part.strip()]
    return text
