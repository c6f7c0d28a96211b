"""Large blocks of memory go back to the system when they are free: a burst of bodies is not paid for ever after."""

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3
"""The number by which glibc knows what is set (malloc.h)."""
LARGE = 128 * 1024


def return_memory() -> None:
    """glibc begins with this size, but raises it with every large block that was freed. Elsewhere nothing happens."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)
