"""glibc's allocator, told to give large blocks back: a few requests of 16 MiB must not stay in memory for good.

By itself it keeps what such a block was freed from (its threshold for blocks of their own grows with the first one),
in an arena for each thread. Of four requests of 16 MiB at once 219 MB stay without this, and about 100 MB with it.
Elsewhere than on glibc this does nothing.
"""

import ctypes
from typing import NamedTuple

ARENAS = 2


class Limits(NamedTuple):
    """What the allocator of a process keeps for itself."""

    large_bytes: int
    """Blocks from this size on are the kernel's, and go back when they are freed."""
    trim_bytes: int
    """What may stay free at the end of a heap."""

    def environment(self) -> dict[str, str]:
        """For a process that is yet to start."""
        return {
            "MALLOC_ARENA_MAX": str(ARENAS),
            "MALLOC_MMAP_THRESHOLD_": str(self.large_bytes),
            "MALLOC_TRIM_THRESHOLD_": str(self.trim_bytes),
        }


RECEIVING = Limits(large_bytes=4 << 20, trim_bytes=16 << 20)
"""Usual requests are smaller. Setting the first fixes the second at 128 KB, and these would pay."""
DELIVERY = Limits(large_bytes=32 << 20, trim_bytes=32 << 20)
"""A trace of 10 MB is copied some times on its way into a store: given back each time, the page faults of these copies
took 10 ms of 26. What is free goes back every ten seconds (`give_back`)."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_little(limits: Limits = RECEIVING) -> None:
    """For this process, as early as possible: arenas that are there already stay."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, limits.large_bytes)
    mallopt(_M_TRIM_THRESHOLD, limits.trim_bytes)
    mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return to the kernel what is free between blocks that are in use. It takes some milliseconds for 100 MB."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
