"""`plugin_settings.archive`."""

from pydantic import BaseModel, ConfigDict, Field

from app.storage.safe_zip import ZipLimits

_MEBIBYTE = 1024 * 1024


class ArchiveSettings(BaseModel):
    """Limits of one archive; sizes carry their unit in the name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_archive_mb: int = Field(default=100, ge=1, le=4096)
    max_files: int = Field(default=10_000, ge=1, le=100_000)
    max_file_mb: int = Field(default=64, ge=1, le=4096)
    max_total_mb: int = Field(default=256, ge=1, le=16_384)
    max_reported: int = Field(default=1000, ge=1, le=100_000)
    skip_hidden: bool = True

    def zip_limits(self) -> ZipLimits:
        """Return the reader's limits."""
        return ZipLimits(
            max_archive_bytes=self.max_archive_mb * _MEBIBYTE,
            max_members=self.max_files,
            max_member_bytes=self.max_file_mb * _MEBIBYTE,
            max_total_bytes=self.max_total_mb * _MEBIBYTE,
            # The reader's own bound on processor time is made for its default of 256 MiB.
            max_cpu_seconds=4.0 * max(1.0, self.max_total_mb / 256),
            skip_hidden=self.skip_hidden,
        )
