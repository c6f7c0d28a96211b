"""A worker that goes on: the write that settles one action claims the next, and nothing is lost between the two."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from house import START
from ledgers import end_tasks

from receiver.actions import ActionFailed, Done, Work
from receiver.dispatch import Worker, dispatch
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import Settlement
from receiver.model.errors import StoreUnavailable
from receiver.model.records import Action, Claimed, Filter, Line
from receiver.model.redaction import Redactor
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")
ONE = Definition(name="one", kind=ActionKind.PYTHON, timeout=5, breaker=1)


class Ledger(SqliteStore):
    """Counts its writes; before it settles and claims, it does what it was told to."""

    writes = 0

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.before: Callable[[], None] = lambda: None

    async def write(self, work: Callable[[Transaction], T]) -> T:
        self.writes += 1
        return await super().write(work)

    async def settle_and_claim(
        self, claimed: Claimed, settlement: Settlement, now: float, lease: float, *, node: str = "local"
    ) -> tuple[bool, Claimed | None]:
        self.before()
        return await super().settle_and_claim(claimed, settlement, now, lease, node=node)


async def nothing() -> None:
    pass


class World:
    """Two actions that are owed, and a worker for them."""

    def __init__(self, store: Ledger) -> None:
        self.store = store
        self.goes_on = True
        self.worker = Worker(lambda: self.goes_on)
        self.keys: list[str] = []
        self.failure: ActionFailed | None = None
        self.meanwhile = nothing

    async def step(self) -> Line | None:
        performers = {ActionKind.PYTHON: self.perform}
        return await dispatch(
            *(self.store, performers, ONE, Redactor([]), lambda: START, lambda: 0.5), worker=self.worker
        )

    async def perform(self, work: Work) -> Done:
        self.keys.append(work.key)
        await self.meanwhile()
        if self.failure is not None:
            raise self.failure
        return Done(detail={})

    async def actions(self) -> list[Action]:
        return list(reversed((await self.store.actions(Filter())).items))

    async def states(self) -> list[str]:
        return [action.state for action in await self.actions()]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = Ledger(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions([ONE], START)
    await end_tasks(store, 2, [ONE], START)
    yield World(store)
    await store.close()


async def test_who_goes_on_writes_once_for_an_action_and_not_in_vain_at_the_end(world: World) -> None:
    before = world.store.writes
    assert await world.step() is not None
    assert await world.states() == ["done", "running"]
    assert await world.step() is not None
    assert await world.step() is None
    assert world.store.writes - before == 3
    assert await world.states() == ["done", "done"]
    assert len(world.keys) == len(set(world.keys)) == 2


async def test_what_comes_to_be_owed_after_the_last_settlement_is_found_by_the_next_look(world: World) -> None:
    while await world.step() is not None:
        pass
    await end_tasks(world.store, 3, [ONE], START)
    assert await world.step() is not None


async def test_who_does_not_go_on_claims_nothing_beside(world: World) -> None:
    world.goes_on = False
    assert await world.step() is not None
    assert await world.states() == ["done", "owed"]


async def test_what_was_claimed_beside_is_given_back_when_its_worker_ends_and_counts_as_no_attempt(
    world: World,
) -> None:
    await world.step()
    await world.worker.give_back()
    await world.worker.give_back()
    assert await world.states() == ["done", "owed"]
    (_, second) = await world.actions()
    assert second.attempts == 0
    assert [each.outcome for each in await world.store.attempts(second.id)] == ["returned"]
    assert len(world.keys) == 1


async def test_a_settlement_that_is_cancelled_while_it_is_written_counts_and_its_claim_is_given_back(
    world: World,
) -> None:
    cancelled: list[bool] = []
    running = asyncio.create_task(world.step())
    world.store.before = lambda: cancelled.append(running.cancel())
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await world.states() == ["done", "owed"]
    assert [action.attempts for action in await world.actions()] == [1, 0]


async def test_what_spoils_the_next_claim_does_not_spoil_the_settlement(world: World) -> None:
    def spoil() -> None:
        raise ValueError("another action's row is odd")

    world.store.before = spoil
    line = await world.step()
    assert line is not None
    assert (line["outcome"], await world.states()) == ("done", ["done", "owed"])


async def test_what_was_done_while_nothing_could_be_written_is_settled_later_and_the_next_is_claimed(
    world: World,
) -> None:
    refusals = [StoreUnavailable("disk_full", "nothing can be written: disk full")]

    def refuse() -> None:
        if refusals:
            raise refusals.pop()

    world.store.before = refuse
    await world.step()
    assert await world.states() == ["done", "running"]
    assert len(world.keys) == 1


async def test_a_settlement_that_opens_the_breaker_claims_nothing(world: World) -> None:
    world.failure = ActionFailed("it is down")
    await world.step()
    assert await world.states() == ["owed", "owed"]


async def test_an_action_that_ends_after_its_definition_was_paused_is_the_last_one(world: World) -> None:
    async def pause() -> None:
        await world.store.set_paused("one", START, paused=True)

    world.meanwhile = pause
    await world.step()
    assert await world.states() == ["done", "owed"]


async def test_who_has_lost_a_lease_settles_nothing_and_goes_on(world: World) -> None:
    async def lose() -> None:
        world.meanwhile = nothing
        assert await world.store.free_expired_leases(START + 1e6, {"one": 12}) == 1

    world.meanwhile = lose
    line = await world.step()
    assert line is not None
    assert line["outcome"] == "lease lost"
    assert await world.states() == ["owed", "running"]
