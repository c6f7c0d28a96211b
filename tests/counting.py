"""A store that counts the steps of SQLite's virtual machine: what a verb costs, on any machine."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.database import READERS
from receiver.store.sqlite.engine import SqliteTransaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741


class Counting(SqliteStore):
    """`most` is what the dearest transaction took since it was set to 0, `grain` how finely steps are counted."""

    def __init__(self, path: Path, grain: int = 100) -> None:
        super().__init__(path)
        self.most = 0
        self._grain = grain

    async def write(self, work: Callable[[Transaction], T]) -> T:
        return await super().write(self._counted(work))

    async def write_together(self, verb: Callable[[Transaction, Sequence[I]], Sequence[T]], item: I) -> T:
        return await super().write(self._counted(lambda tx: verb(tx, [item])[0]))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await super().read(self._counted(work))

    async def warm(self) -> None:
        """Has every connection that reads read the schema: what comes first would pay for that."""
        together = threading.Barrier(READERS)

        def look(tx: Transaction) -> None:
            tx.all("select key from tasks limit 1")
            together.wait(10)

        await asyncio.gather(*(super(Counting, self).read(look) for _ in range(READERS)))

    def _counted(self, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        def counted(tx: Transaction) -> T:
            assert isinstance(tx, SqliteTransaction)
            steps = 0

            def count() -> None:
                nonlocal steps
                steps += self._grain

            tx.connection.set_progress_handler(count, self._grain)
            try:
                return work(tx)
            finally:
                tx.connection.set_progress_handler(None, 0)
                self.most = max(self.most, steps)

        return counted
