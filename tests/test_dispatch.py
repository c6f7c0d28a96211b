"""Dispatching with real concurrency: a lease is renewed while its action runs, a lost one stops it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import START, House, open_house
from ledgers import end_tasks

from receiver.actions import ActionFailed, Done, Work
from receiver.dispatch import dispatch, judge
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import Settlement
from receiver.model.errors import StoreUnavailable
from receiver.model.records import Claimed, Filter, JsonObject
from receiver.model.redaction import Redactor
from receiver.server.definitions import KEEP_FILES
from receiver.store.sqlite.store import SqliteStore

QUICK_LEASE = """
[[actions]]
name = "one"
kind = "python"
function = "effects:one"
lease = 0.03
timeout = 5
"""


@pytest.fixture
async def quick(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, QUICK_LEASE) as house:
        yield house


class Held:
    """An effect that lasts until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.cancelled = False

    async def __call__(self, _: Work) -> Done:
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return Done(detail={"held": True})


async def begin(house: House) -> tuple[Held, "asyncio.Task[object]", str]:
    task_id = await house.submit()
    await house.service.submit_next()
    house.clock.now += 5
    await house.simulator.tick()
    await house.simulator.tick()
    await house.service.reconcile_next()
    effect = Held()
    house.effect = effect
    running = asyncio.create_task(house.service.dispatch_next(house.service.definitions[0]))
    await effect.begun.wait()
    return effect, running, task_id


async def test_a_lease_is_renewed_while_its_action_runs(quick: House) -> None:
    effect, running, task_id = await begin(quick)
    quick.clock.now += 0.025
    await until_renewed(quick, quick.clock.now + 0.02)
    assert await quick.store.free_expired_leases(quick.clock.now + 0.02, {"one": 12}) == 0
    effect.go.set()
    await running
    assert (await quick.task(task_id)).actions[0].state == "done"


async def until_renewed(house: House, beyond: float) -> None:
    """Waits until the lease lasts beyond a time, as the store sees it."""
    async with asyncio.timeout(5):
        while True:
            (action,) = (await house.store.actions(Filter())).items
            if action.lease_until is not None and action.lease_until > beyond:
                return


async def test_an_action_whose_lease_was_lost_is_stopped_and_settles_nothing(quick: House) -> None:
    effect, running, task_id = await begin(quick)
    await quick.store.free_expired_leases(quick.clock.now + 100, {"one": 12})
    line = await running
    assert isinstance(line, dict)
    assert line["outcome"] == "lease lost"
    assert effect.cancelled
    action = (await quick.task(task_id)).actions[0]
    assert (action.state, [each.outcome for each in action.tries]) == ("owed", ["interrupted"])


async def test_stopping_gives_a_running_action_back_without_counting_the_try(quick: House) -> None:
    effect, running, task_id = await begin(quick)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert effect.cancelled
    action = (await quick.task(task_id)).actions[0]
    assert (action.state, action.attempts) == ("owed", 0)
    assert [each.outcome for each in action.tries] == ["returned"]
    effect.go.set()
    await quick.settle()
    action = (await quick.task(task_id)).actions[0]
    assert (action.state, action.attempts) == ("done", 1)


async def test_an_action_that_takes_too_long_is_stopped_and_tried_again(tmp_path: Path) -> None:
    async with open_house(tmp_path, QUICK_LEASE.replace("timeout = 5", "timeout = 0.05")) as house:
        effect, running, task_id = await begin(house)
        await running
        assert effect.cancelled
        action = (await house.task(task_id)).actions[0]
        assert (action.state, action.reason) == ("owed", "it took longer than its timeout of 0.05 s")


async def test_an_action_that_breaks_is_tried_again_with_the_error_kept(quick: House) -> None:
    async def broken(_: Work) -> Done:
        raise ZeroDivisionError("division by zero")

    quick.effect = broken
    task_id = await quick.submit()
    await quick.advance(10)
    tries = (await quick.task(task_id)).actions[0].tries
    assert tries[0].outcome == "retry"
    assert tries[0].detail["error"] == "ZeroDivisionError: division by zero"


async def test_an_effect_that_ignores_that_its_lease_was_lost_settles_nothing_and_leaves_its_worker_alone(
    quick: House,
) -> None:
    stopped = asyncio.Event()

    async def stubborn(_: Work) -> Done:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            stopped.set()
        return Done(detail={"stubborn": True})

    _, running, task_id = await begin(quick)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    begun = asyncio.Event()
    quick.effect = stubborn
    worker = asyncio.create_task(quick.service.dispatch_next(quick.service.definitions[0]))
    await begun.wait()
    await quick.store.free_expired_leases(quick.clock.now + 100, {"one": 12})
    line = await worker
    assert stopped.is_set()
    assert isinstance(line, dict)
    assert line["outcome"] == "lease lost"
    assert (await quick.task(task_id)).actions[0].state == "owed"


@pytest.mark.parametrize(("kind", "first"), [('"download"', "older"), ('"python"\nfunction = "effects:one"', "newer")])
async def test_files_are_fetched_in_the_order_in_which_their_links_die(tmp_path: Path, kind: str, first: str) -> None:
    async with open_house(tmp_path, f'[[actions]]\nname = "one"\nkind = {kind}\n') as house:
        store, definitions = house.store, house.service.definitions
        (older,) = await end_tasks(store, 1, definitions, START)
        claimed = await store.claim_action("one", START, 60)
        assert claimed is not None
        await store.settle_action(claimed, Settlement(outcome="retry", due_at=START + 1000), START)
        (newer,) = await end_tasks(store, 1, definitions, START + 500)
        claimed = await store.claim_action("one", START + 2000, 60)
        assert claimed is not None
        assert claimed.task.id == {"older": older.id, "newer": newer.id}[first]


@pytest.mark.parametrize("stepped", [3600.0, 1e6])
async def test_a_clock_that_steps_ahead_frees_nothing_that_runs_here(quick: House, stepped: float) -> None:
    effect, running, task_id = await begin(quick)
    quick.clock.now += stepped
    await quick.service.housekeep()
    assert await quick.service.dispatch_next(quick.service.definitions[0]) is None
    effect.go.set()
    await running
    action = (await quick.task(task_id)).actions[0]
    assert (action.state, [each.outcome for each in action.tries]) == ("done", ["done"])
    assert len(quick.effects) == 1


async def test_a_claim_that_is_cancelled_while_it_is_written_is_given_back(quick: House) -> None:
    await end_tasks(quick.store, 1, quick.service.definitions, quick.clock())
    running = asyncio.create_task(quick.service.dispatch_next(quick.service.definitions[0]))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    (action,) = (await quick.store.actions(Filter())).items
    assert (action.state, action.attempts, quick.effects) == ("owed", 0, [])
    assert [each.outcome for each in await quick.store.attempts(action.id)] == ["returned"]


class Full(SqliteStore):
    """Refuses the first settlements, as a store does that cannot write."""

    refusals = 1

    async def settle_action(self, claimed: Claimed, settlement: Settlement, now: float) -> bool:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("disk_full", "nothing can be written: disk full")
        return await super().settle_action(claimed, settlement, now)


async def test_what_was_done_while_nothing_could_be_written_is_written_down_later_and_not_done_again(
    tmp_path: Path,
) -> None:
    definition = Definition(name="one", kind=ActionKind.PYTHON, timeout=5)
    tried: list[str] = []

    async def effect(work: Work) -> Done:
        tried.append(work.key)
        return Done(detail={})

    store = Full(tmp_path / "receiver.db")
    await store.open()
    try:
        (task,) = await end_tasks(store, 1, [definition], START)
        line = await dispatch(store, {ActionKind.PYTHON: effect}, definition, Redactor([]), lambda: START, lambda: 0.5)
        assert line is not None
        assert (line["outcome"], store.refusals) == ("done", 0)
        assert tried == [f"{task.id}:one:1"]
        assert (await store.actions(Filter())).items[0].state == "done"
    finally:
        await store.close()


@pytest.mark.parametrize("name", ["caf\udce9.txt", "\ud800", "日本語 🎬", "a\x00b"])
async def test_an_error_about_any_file_name_is_kept(quick: House, name: str) -> None:
    """A file name that is no UTF-8 has lone surrogates in Python, which no database and no JSON takes."""

    async def missing(_: Work) -> Done:
        raise ValueError(f"cannot read {name}")

    quick.effect = missing
    await end_tasks(quick.store, 1, quick.service.definitions, quick.clock())
    line = await quick.service.dispatch_next(quick.service.definitions[0])
    assert line is not None
    assert line["outcome"] == "retry"
    (action,) = (await quick.store.actions(Filter())).items
    assert (action.reason or "").startswith("ValueError: cannot read ")


async def test_a_result_that_is_nested_too_deeply_is_done_all_the_same(quick: House) -> None:
    nested: JsonObject = {}
    for _ in range(900):
        nested = {"in": nested}

    async def deep(_: Work) -> Done:
        return Done(detail={"returned": nested})

    quick.effect = deep
    (task,) = await end_tasks(quick.store, 1, quick.service.definitions, quick.clock())
    line = await quick.service.dispatch_next(quick.service.definitions[0])
    assert line is not None
    assert line["outcome"] == "done"
    assert (await quick.task(task.id)).actions[0].tries[0].detail == {"kept": "nothing, for it is nested too deeply"}


@pytest.mark.parametrize(
    ("asked", "wait"),
    [(None, 2.0), (1.0, 2.0), (300.0, 300.0), (1e300, 86400.0)],
)
def test_the_next_try_waits_as_long_as_the_target_asked_a_day_at_the_most(asked: float | None, wait: float) -> None:
    hook = Definition(name="one", kind=ActionKind.HTTP, timeout=5)
    failure = ActionFailed("the target answered 429", retry_after=asked)
    settled = judge(hook, failure, attempts=1, event_at=START, now=START, jitter=0.5)
    assert (settled.outcome, settled.due_at) == ("retry", START + wait)


@pytest.mark.parametrize(("age", "outcome"), [(3600, "retry"), (86390, "dead")])
def test_a_download_is_not_tried_again_after_its_links_have_died(age: float, outcome: str) -> None:
    failure = ActionFailed("no answer", retry_after=60.0)
    settled = judge(KEEP_FILES, failure, attempts=1, event_at=START, now=START + age, jitter=0.5)
    assert settled.outcome == outcome
    assert settled.reason == ("expired: no answer" if outcome == "dead" else "no answer")
