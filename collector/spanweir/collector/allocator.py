"""glibc's allocator, told to give large blocks back: a few requests of 16 MiB must not stay in memory for good.

By itself it keeps what such a block was freed from (its threshold for blocks of their own grows with the first one),
in an arena for each thread. Of four requests of 16 MiB at once 219 MB stay without this, and about 100 MB with it.
Elsewhere than on glibc this does nothing.
"""

import ctypes

LARGE_BYTES = 4 << 20
"""Blocks from this size on are the kernel's, and go back when they are freed. Usual requests are smaller."""
TRIM_BYTES = 4 * LARGE_BYTES
"""What may stay free at the end of a heap. Setting the other fixes this one at 128 KB, and usual requests would pay:
with 8 MB, batches that wait for a table are given back and asked for again, which makes one page fault more a span."""
ARENAS = 2
ENVIRONMENT = {
    "MALLOC_ARENA_MAX": str(ARENAS),
    "MALLOC_MMAP_THRESHOLD_": str(LARGE_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(TRIM_BYTES),
}
"""The same for a process that is yet to start."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def keep_little() -> None:
    """For this process, as early as possible: arenas that are there already stay."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_TRIM_THRESHOLD, TRIM_BYTES)
    mallopt(_M_ARENA_MAX, ARENAS)


def give_back() -> None:
    """Return to the kernel what is free between blocks that are in use. It takes some milliseconds for 100 MB."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return
