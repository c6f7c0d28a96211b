"""Ledgers that are filled through the store's own verbs: tasks that have ended, with what they owe."""

import asyncio
import sys
from collections.abc import Sequence

import uuid_utils

from receiver.model import rules
from receiver.model.definitions import Definition
from receiver.model.entries import NewEvent, NewTask
from receiver.model.records import End, Kind, Result, Source, Task
from receiver.store import Store

MODEL = "rhart-video-v3.1-pro-official/reference-to-video"
TOGETHER = 200


async def end_tasks(
    store: Store, count: int, definitions: Sequence[Definition], now: float, *, callback: bool = False
) -> list[Task]:
    """So many tasks that have succeeded at `now`, each with one result, and what the definitions owe for them.

    With `callback`, their callbacks are looked for.
    """
    tasks: list[Task] = []
    for first in range(0, count, TOGETHER):
        numbers = range(first, min(count, first + TOGETHER))
        tasks += await asyncio.gather(*(_end(store, number, definitions, now, callback) for number in numbers))
    return tasks


async def _end(store: Store, number: int, definitions: Sequence[Definition], now: float, callback: bool) -> Task:
    order = NewTask(
        id=str(uuid_utils.uuid7()), kind=Kind.MODEL, target=MODEL, input={}, labels={}, digest=number.to_bytes(32)
    )
    await store.add_task(order, now)
    task = await store.take_queued_task(now, sys.maxsize, callback=callback)
    assert task is not None
    await store.mark_submitted(task, f"19{task.key:017}", "RUNNING", now + 1e9, now)
    submitted = await store.task(task.id)
    assert submitted is not None
    result = Result(url=f"http://127.0.0.1:9/{number}.png", type="png")
    event = NewEvent(
        task=submitted, state=End.SUCCEEDED, source=Source.QUERY, confirmed=True, settled=True, results=[result]
    )
    await store.record_event(event, rules.owed(definitions, event), now)
    return submitted
