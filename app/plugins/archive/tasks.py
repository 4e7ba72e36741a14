"""The tasks of the archive plugin."""

from typing import Annotated

from pydantic import AfterValidator, Field

from app import TaskContext, register_task
from app.plugins.archive.schemas import ExpandedArchive
from app.plugins.archive.service import ArchiveExpander
from app.plugins.archive.settings import ArchiveSettings
from app.storage import StorageKeyError, check_key

_PROGRESS_STEP = 50


def _key(value: str) -> str:
    try:
        return check_key(value)
    except StorageKeyError as error:
        raise ValueError(error.detail) from None


# A folder below the target needs room for the names that we choose.
Source = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_key)]
Target = Annotated[str, Field(min_length=1, max_length=900), AfterValidator(_key)]


@register_task("archive.expand_zip", max_attempts=5, timeout_seconds=600)
def expand_zip(ctx: TaskContext, source: Source, target: Target | None = None) -> ExpandedArchive:
    """Expand a ZIP archive on the storage into a folder and list its files.

    `source` is the archive's storage key; `target` is a folder that must be empty, without it
    `expanded/<task id>`. The files get names of our own; `name` is what the archive called them.
    Bad members are reported while the good ones are expanded; a broken or hostile archive fails
    the run and leaves nothing. Archives inside the archive stay archives.
    """
    settings = ctx.plugin_settings

    def progress(current: int, total: int) -> None:
        if current % _PROGRESS_STEP == 0 or current == total:
            ctx.raise_if_cancelled()
            ctx.progress(current, total, "expanding the archive")

    expander = ArchiveExpander(
        storage=ctx.storage,
        settings=settings if isinstance(settings, ArchiveSettings) else ArchiveSettings(),
        task_id=ctx.task_id,
        attempt=ctx.attempt,
        progress=progress,
    )
    return expander.expand(source, target or f"expanded/{ctx.task_id}")
