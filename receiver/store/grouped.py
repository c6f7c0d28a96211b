"""A store over the one writer, whatever the engine: writes in groups, and everybody told what a commit changed."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from receiver.model.entries import Change, Storing
from receiver.store.ledger.transaction import Transaction
from receiver.store.verbs import Listener, Store
from receiver.store.writer import Engine, Writer

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741


class GroupedStore(Store):
    """What the stores of all engines have in common."""

    def __init__(self, engine: Engine, monotonic: Callable[[], float]) -> None:
        self._listeners: list[Listener] = []
        self._writer = Writer(engine, monotonic=monotonic, publish=self._publish)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        return await self._writer.run(work)

    async def write_together(self, verb: Callable[[Transaction, Sequence[I]], Sequence[T]], item: I) -> T:
        return await self._writer.run_together(verb, item)

    def listen(self, listener: Listener) -> None:
        self._listeners.append(listener)

    def refused(self) -> Mapping[str, int]:
        return dict(self._writer.refused)

    def _storing(self, version: str, size: int | None) -> Storing:
        return Storing(version, self._writer.commits, self._writer.writes, self._writer.waiting, size)

    def _publish(self, changes: Sequence[Change]) -> None:
        for listener in self._listeners:
            try:
                listener(changes)
            except Exception as error:
                # The others are told all the same.
                told = {"message": "a listener to the ledger failed", "exception": error}
                asyncio.get_running_loop().call_exception_handler(told)
