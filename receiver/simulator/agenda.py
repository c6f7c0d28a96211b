"""Owns what is still to happen, and when: steps ordered by their due time, and among equals by arrival."""

import heapq
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeAlias

Step: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(order=True)
class Entry:
    """A step and its due time in seconds since 1970. `open` turns false once it was taken or dropped."""

    due: float
    order: int
    step: Step = field(compare=False)
    open: bool = field(default=True, compare=False)


class Agenda:
    """Steps in the order in which they fall due. Several callers may take from it at once."""

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._order = count()

    def add(self, due: float, step: Step) -> Entry:
        """Puts a step on the agenda and gives the entry, by which it can be dropped."""
        entry = Entry(due, next(self._order), step)
        heapq.heappush(self._heap, entry)
        return entry

    def drop(self, entries: Iterable[Entry]) -> None:
        """Strikes the entries out; those already taken stay as they are."""
        for entry in entries:
            entry.open = False

    def next_due(self) -> float | None:
        """When the earliest open step is due, None when there is none."""
        while self._heap and not self._heap[0].open:
            heapq.heappop(self._heap)
        return self._heap[0].due if self._heap else None

    def take(self, now: float) -> Entry | None:
        """The earliest step due at `now`, which nobody else will get, or None when nothing is due."""
        due = self.next_due()
        if due is None or due > now:
            return None
        entry = heapq.heappop(self._heap)
        entry.open = False
        return entry

    async def hurry(self, entries: Iterable[Entry], now: float) -> None:
        """Takes and performs those of the entries which are due at `now`, at once instead of at the next turn."""
        for entry in entries:
            if entry.open and entry.due <= now:
                entry.open = False
                await entry.step()
