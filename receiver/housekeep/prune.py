"""Pruning: removes what is older than it is kept, in steps so small that nobody who waits to write notices them."""

from collections import deque
from collections.abc import Sequence

from receiver.model import retention
from receiver.model.entries import Old
from receiver.store import Store

DAY = 86400.0
BEGINNING = (0.0, 0)


class Pruning:
    """One run through every kind of row that is not kept for ever. A dry run only counts.

    `gone` has, by kind, how many rows went or would go, and about how many bytes those are.
    """

    def __init__(self, keep: retention.Keep, now: float, *, dry_run: bool = False) -> None:
        self.began_at = now
        self.dry_run = dry_run
        self.days = retention.days_kept(keep)
        self.gone = {kind: Old(0, 0, 0) for kind in self.days}
        self._left = deque(self.days)
        self._after: tuple[float, int] | None = BEGINNING
        self._found: list[Old] = []

    async def step(self, store: Store) -> bool:
        """Looks at some rows, or removes some that were found. False when there is nothing left to do."""
        if self._found:
            await self._remove(store)
        elif self._left:
            await self._look(store)
        return bool(self._found or self._left)

    async def _look(self, store: Store) -> None:
        kind = self._left[0]
        found, self._after = await store.old_rows(kind, self._before(kind), self._after or BEGINNING)
        if self.dry_run:
            self._count(kind, found)
        else:
            self._found = found
        self._go_on()

    async def _remove(self, store: Store) -> None:
        kind = self._left[0]
        some = _first(self._found)
        keys = [each.key for each in some]
        self._count(kind, [await store.remove_old(kind, self._before(kind), keys, self.began_at)])
        self._found = self._found[len(some) :]
        self._go_on()

    def _go_on(self) -> None:
        """To the next kind, when this one is through."""
        if self._after is None and not self._found:
            self._left.popleft()
            self._after = BEGINNING

    def _before(self, kind: str) -> float:
        return self.began_at - self.days[kind] * DAY

    def _count(self, kind: str, gone: Sequence[Old]) -> None:
        _, rows, size = self.gone[kind]
        self.gone[kind] = Old(0, rows + sum(each.rows for each in gone), size + sum(each.bytes for each in gone))


def _first(found: Sequence[Old]) -> Sequence[Old]:
    """As many as go in one write."""
    rows = size = 0
    for place, each in enumerate(found):
        rows, size = rows + each.rows, size + each.bytes
        if place and (rows > retention.PRUNE_ROWS or size > retention.PRUNE_BYTES):
            return found[:place]
    return found
