"""A process that works off a ledger and kills itself at a named point.

`python dying_worker.py DATABASE EFFECTS POINT [goes-on]`. The points stand inside the claim, the effect and the
settlement. `none` is a worker that lives until nothing is owed; one that goes on claims the next while it settles.
Its effect is a line in a file, made durable: the idempotency key, and which try it was.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from receiver.actions import Done, Work
from receiver.dispatch import Worker, dispatch
from receiver.housekeep import housekeep
from receiver.model.definitions import ActionKind, Definition
from receiver.model.redaction import Redactor
from receiver.server.settings import Settings
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")

DEFINITION = Definition(name="effect", kind=ActionKind.PYTHON, timeout=30, lease=0.2, concurrency=1)
POINTS = (
    "before the claim",
    "inside the claim, before its commit",
    "after the claim was committed",
    "inside the effect",
    "after the effect",
    "inside the settlement, before its commit",
    "after the settlement was committed",
)
CLAIM = "a claim"
SETTLEMENT = "a settlement"


def die_at(point: str, chosen: str) -> None:
    if point == chosen:
        os.kill(os.getpid(), signal.SIGKILL)


class MortalStore(SqliteStore):
    """A store that dies in the middle of a transaction, or right after one; `busy_with` names what is being written."""

    def __init__(self, path: Path, point: str) -> None:
        super().__init__(path)
        self.point = point
        self.busy_with = CLAIM

    async def write(self, work: Callable[[Transaction], T]) -> T:
        def mortal(tx: Transaction) -> T:
            value = work(tx)
            if value is not None:
                die_at(f"inside the {self.busy_with.removeprefix('a ')}, before its commit", self.point)
            return value

        value = await super().write(mortal)
        if value is not None:
            die_at(f"after the {self.busy_with.removeprefix('a ')} was committed", self.point)
        return value


async def main(database: Path, effects: Path, point: str, *, goes_on: bool) -> None:
    store = MortalStore(database, "none")
    await store.open()
    await store.sync_definitions([DEFINITION], time.time())
    store.point = point

    async def effect(work: Work) -> Done:
        store.busy_with = SETTLEMENT
        with effects.open("ab", buffering=0) as file:
            if work.attempt == 1:
                die_at("inside the effect", point)
            file.write(f"{work.key} {work.attempt}\n".encode())
            os.fsync(file.fileno())
        die_at("after the effect", point)
        return Done(detail={})

    die_at("before the claim", point)
    worker = Worker(lambda: goes_on)
    while True:
        store.busy_with = CLAIM
        performers = {ActionKind.PYTHON: effect}
        line = await dispatch(store, performers, DEFINITION, Redactor([]), time.time, lambda: 0.5, worker=worker)
        if line is None:
            await housekeep(store, [DEFINITION], Settings().policy, time.time())
            states = (await store.definition_states())[0].counts
            if not states.get("owed") and not states.get("running"):
                break
            await asyncio.sleep(0.02)
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], goes_on="goes-on" in sys.argv[4:]))
