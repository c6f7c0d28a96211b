"""A worker killed at every named point of claim, effect and settlement: each effect is had, repeated with its key."""

import asyncio
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from dying_worker import DEFINITION, POINTS
from ledgers import end_tasks
from servers import rows

from receiver.store import open_store

pytestmark = pytest.mark.slow

WORKER = Path(__file__).with_name("dying_worker.py")
TASKS = 3
ONCE = ("before the claim", "inside the claim, before its commit", "after the settlement was committed")
"""Points at which no effect is under way."""
CLAIMED_BESIDE = "after the settlement was committed"
"""Where one that goes on holds the next action already."""
BEFORE_THE_EFFECT = ("after the claim was committed", "inside the effect")


async def work(database: Path, effects: Path, point: str, *more: str) -> int:
    """The exit code of a worker that dies at a point, or lives until nothing is owed."""
    process = await asyncio.create_subprocess_exec(sys.executable, WORKER, database, effects, point, *more)
    async with asyncio.timeout(30):
        return await process.wait()


@pytest.fixture
async def owed(tmp_path: Path) -> tuple[Path, list[str]]:
    """A ledger that owes the effect for each of its tasks."""
    database = tmp_path / "receiver.db"
    store = open_store(f"sqlite:///{database}")
    await store.open()
    try:
        await store.sync_definitions([DEFINITION], time.time())
        tasks = await end_tasks(store, TASKS, [DEFINITION], time.time())
    finally:
        await store.close()
    return database, [task.id for task in tasks]


@pytest.mark.parametrize("more", [(), ("goes-on",)])
@pytest.mark.parametrize("point", POINTS)
async def test_killed_at_this_point_every_effect_is_had_and_a_repetition_has_the_same_key(
    owed: tuple[Path, list[str]], tmp_path: Path, point: str, more: tuple[str, ...]
) -> None:
    database, tasks = owed
    effects = tmp_path / "effects"
    effects.touch()
    assert await work(database, effects, point, *more) == -signal.SIGKILL
    assert await work(database, effects, "none", *more) == 0

    had = Counter(line.split()[0] for line in effects.read_text().splitlines())
    assert set(had) == {f"{task}:effect:1" for task in tasks}
    repeated = sum(count - 1 for count in had.values())
    assert repeated == (0 if point in (*ONCE, *BEFORE_THE_EFFECT) else 1)
    assert set(rows(database, "select state, lease_until from actions")) == {("done", None)}
    interrupted = rows(database, "select count(*) from attempts where outcome = 'interrupted'")
    held = point not in ONCE or (bool(more) and point == CLAIMED_BESIDE)
    assert interrupted == [(int(held),)]
    assert rows(database, "select count(*) from attempts where ended_at is null") == [(0,)]


async def test_killed_again_and_again_it_still_comes_to_an_end(owed: tuple[Path, list[str]], tmp_path: Path) -> None:
    database, tasks = owed
    effects = tmp_path / "effects"
    for point in POINTS:
        assert await work(database, effects, point) == -signal.SIGKILL
    assert await work(database, effects, "none") == 0
    keys = {line.split()[0] for line in effects.read_text().splitlines()}
    assert keys == {f"{task}:effect:1" for task in tasks}
    assert set(rows(database, "select state, lease_until from actions")) <= {("done", None), ("dead", None)}
