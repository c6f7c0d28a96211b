"""What a serving process asks of Python and of the C library: memory that comes back, and few pauses.

Large blocks of memory go back to the system when they are free: a burst of bodies is not paid for ever after.
"""

import ctypes
import gc
import sys
from contextlib import suppress

M_MMAP_THRESHOLD = -3
"""The number by which glibc knows what is set (malloc.h)."""
LARGE = 128 * 1024


def return_memory() -> None:
    """glibc begins with this size, but raises it with every large block that was freed. Elsewhere nothing happens."""
    with suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE)


COLLECTIONS = (10_000, 50, 50)
"""How many objects more, and how many collections of the younger ones, make a collection of garbage. Python's own
(700, 10, 10) cost a third of the slowest answers at 256 connections (p99 64 ms, and 26 ms with these)."""
SWITCH = 0.001
"""Seconds after which a thread that waits for Python's lock gets it. The writer commits for everybody who waits, and
with Python's own 5 ms it waits for the loop longer than for the disk."""


def avoid_pauses() -> None:
    """What is there when a server is ready is there to stay: it is never looked through for garbage again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTIONS)
    sys.setswitchinterval(SWITCH)
