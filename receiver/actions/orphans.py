"""Buries the dead that nobody else does: where this server is the first process of a container, orphans fall to it.

A program may leave others behind, and these are the server's children once the program has ended. Whoever waits for a
child of our own buries it within a moment of its death. So what still lies there at a second look is an orphan.
"""

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

BETWEEN = 2.0
"""Seconds between two looks."""


async def bury_orphans() -> None:
    seen: frozenset[int] = frozenset()
    while hasattr(os, "waitid"):  # macOS has none, and no containers of its own
        await asyncio.sleep(BETWEEN)
        seen = bury(seen)


def bury(seen: frozenset[int]) -> frozenset[int]:
    """Buries the children that were dead already at the last look. Returns those that died since."""
    if not _is_dead(os.P_ALL, 0):
        return frozenset()  # as nearly always: all that a look costs is this question
    dead = frozenset(pid for pid in _children() if _is_dead(os.P_PID, pid))
    for pid in dead & seen:
        with suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)
    return dead - seen


def _is_dead(kind: int, pid: int) -> bool:
    """Whether a child, or any, has died and lies there."""
    try:
        return os.waitid(kind, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


def _children() -> Iterator[int]:
    """The ids of this process's children, each of which belongs to one of its threads."""
    for listed in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, listed.read_text().split())
