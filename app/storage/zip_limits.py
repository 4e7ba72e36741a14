"""How much an archive may hold and cost."""

from dataclasses import dataclass

_MIB = 1 << 20
# Name, extra fields and comment of one entry, generously; a directory beyond it is an attack.
_DIRECTORY_BYTES_PER_MEMBER = 1600


@dataclass(frozen=True, slots=True)
class ZipLimits:
    """Limits of one archive; sizes in bytes.

    `max_cpu_seconds` bounds what crafted data can cost although it stays within
    all sizes; it counts this thread's own time, so a busy machine is no reason.
    """

    max_archive_bytes: int = 100 * _MIB
    max_members: int = 10_000
    max_member_bytes: int = 64 * _MIB
    max_total_bytes: int = 256 * _MIB
    max_ratio: int = 1000
    ratio_free_bytes: int = _MIB
    max_name_bytes: int = 1024
    max_part_bytes: int = 255
    max_depth: int = 32
    max_cpu_seconds: float = 4.0
    skip_hidden: bool = True

    @property
    def max_directory_bytes(self) -> int:
        """Return the largest central directory that is read."""
        return max(_MIB, self.max_members * _DIRECTORY_BYTES_PER_MEMBER)
