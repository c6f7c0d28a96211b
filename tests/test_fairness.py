"""Real loops: a backlog that does not move holds up nobody else, and what is owed starts without being polled for."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from house import API_KEY, START, TLS
from ledgers import end_tasks

from receiver.actions import Done, Performer, Work
from receiver.model.definitions import ActionKind
from receiver.model.records import Line
from receiver.server.loop import IDLE, Loop
from receiver.server.service import Service
from receiver.server.settings import load_settings

pytestmark = pytest.mark.story

TOML = """
[[actions]]
name = "stuck"
kind = "http"
url = "http://127.0.0.1:9/"
concurrency = 2
[[actions]]
name = "quick"
kind = "python"
function = "effects:quick"
"""
BACKLOG = 50


@asynccontextmanager
async def working(directory: Path, perform: Mapping[ActionKind, Performer]) -> AsyncIterator[Service]:
    """A service whose loops turn, on a clock that stands still."""
    (directory / "receiver.toml").write_text(TOML)
    given = {"RECEIVER_DATABASE": f"sqlite:///{directory / 'receiver.db'}", "RUNNINGHUB_API_KEY": API_KEY}
    service = Service(load_settings(given, directory), clock=lambda: START, perform=perform, tls=TLS)
    await service.start()
    try:
        yield service
    finally:
        await service.close()


async def test_a_backlog_that_is_stuck_holds_up_neither_others_nor_what_comes_later(tmp_path: Path) -> None:
    held: list[str] = []
    done: list[str] = []
    all_done = asyncio.Event()

    async def stuck(work: Work) -> Done:
        held.append(work.task_id)
        await asyncio.Event().wait()
        return Done(detail={})

    async def quick(work: Work) -> Done:
        done.append(work.task_id)
        if len(done) in (BACKLOG, BACKLOG + 1):
            all_done.set()
        return Done(detail={})

    async with working(tmp_path, {ActionKind.HTTP: stuck, ActionKind.PYTHON: quick}) as service:
        tasks = await end_tasks(service.store, BACKLOG, service.definitions, START)
        service.wake()
        async with asyncio.timeout(20):
            await all_done.wait()
            all_done.clear()
            (late,) = await end_tasks(service.store, 1, service.definitions, START)
            service.wake()
            await all_done.wait()
        assert set(done) == {task.id for task in (*tasks, late)}
        assert len(held) == 2


class Chores:
    """Something to do at given times; `looks` counts how often somebody asked, `begun` is when it was taken."""

    def __init__(self) -> None:
        self.now = START
        self.due: list[float] = []
        self.takeable = True
        self.looks = 0
        self.steps = 0
        self.taken = asyncio.Event()

    async def next_due(self) -> float | None:
        self.looks += 1
        return min(self.due, default=None)

    async def step(self) -> Line | None:
        self.steps += 1
        if not self.takeable or not self.due or min(self.due) > self.now:
            return None
        self.due.remove(min(self.due))
        self.taken.set()
        return {}


@asynccontextmanager
async def turning(work: Chores, workers: int) -> AsyncIterator[Loop]:
    loop = Loop("test", work.step, work.next_due, lambda: work.now, workers=workers)
    loop.start()
    try:
        yield loop
    finally:
        loop.stop()
        await loop.ended(1)


async def test_what_is_owed_is_taken_at_once_when_somebody_calls() -> None:
    work = Chores()
    async with turning(work, 4) as loop:
        await asyncio.sleep(0)
        work.due.append(START)
        loop.wake()
        async with asyncio.timeout(IDLE / 60):
            await work.taken.wait()


async def test_workers_that_are_called_together_look_once() -> None:
    work = Chores()
    async with turning(work, 16) as loop:
        for _ in range(5):
            await asyncio.sleep(0)
        before = work.looks
        loop.wake()
        for _ in range(20):
            await asyncio.sleep(0)
        assert work.looks - before == 1
        assert work.steps == 0


async def test_what_is_due_and_cannot_be_taken_makes_nobody_spin() -> None:
    work = Chores()
    work.takeable = False
    work.due.append(START)
    async with turning(work, 1):
        for _ in range(500):
            await asyncio.sleep(0)
        assert work.steps == 1


async def test_a_look_that_fails_is_no_look() -> None:
    work = Chores()
    failed = asyncio.Event()

    async def next_due() -> float | None:
        if not failed.is_set():
            failed.set()
            raise OSError
        return await work.next_due()

    loop = Loop("test", work.step, next_due, lambda: work.now)
    loop.start()
    await failed.wait()
    work.due.append(START)
    loop.wake()
    async with asyncio.timeout(IDLE / 60):
        await work.taken.wait()
    loop.stop()
    await loop.ended(1)
