"""A second node beside a first one: what the first one holds is left to it until its leases end.

One file has one owner, so the second node stands on a copy of the first one's ledger, made in the middle of its work.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from house import START, TLS, Clock, House, open_house

from receiver.model import rules
from receiver.model.records import ActionState, Filter, TaskState
from receiver.server.service import Service
from receiver.server.settings import load_settings

LEASE = 60


@asynccontextmanager
async def beside(house: House, directory: Path, node: str) -> AsyncIterator[tuple[Service, Clock]]:
    """A service of that name on a copy of the house's ledger, started and with a clock of its own."""
    copy = directory / "copy"
    copy.mkdir()
    with await house.store.backup() as file:
        (copy / "receiver.db").write_bytes(file.read())
    (copy / "receiver.toml").write_text((directory / "receiver.toml").read_text())
    settings = load_settings({"RECEIVER_DATABASE": f"sqlite:///{copy / 'receiver.db'}"}, copy)
    clock = Clock(house.clock.now + 1)
    service = Service(settings, clock=clock, transport=house.simulator.transport(), tls=TLS, node=node)
    await service.start(loops=False)
    yield service, clock
    await service.close()


async def in_the_middle_of_its_work(house: House) -> None:
    """One task is being sent and one action runs, both held by the house's own node."""
    done = await house.submit()
    while await house.service.submit_next() is not None:
        pass
    await house.simulator.tick()
    house.clock.now = START + 40
    await house.simulator.tick()
    await house.service.reconciler.reconcile(done)
    await house.submit()
    sent = await house.store.take_queued_task(house.clock.now, 100, callback=True, node=house.service.node)
    claimed = await house.store.claim_action("on-success", house.clock.now, LEASE, node=house.service.node)
    assert sent is not None
    assert claimed is not None


async def states(service: Service) -> tuple[list[TaskState], list[ActionState]]:
    tasks, actions = await service.store.tasks(Filter()), await service.store.actions(Filter())
    return [task.state for task in tasks.items], [action.state for action in actions.items]


async def test_a_second_node_leaves_the_first_one_s_work_to_it_until_its_leases_end(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await in_the_middle_of_its_work(house)
        async with beside(house, tmp_path, "two") as (second, clock):
            assert await states(second) == (["submitting", "succeeded"], ["running"])
            await second.housekeep()
            assert await states(second) == (["submitting", "succeeded"], ["running"])
            clock.now += LEASE
            await second.housekeep()
            assert await states(second) == (["submitting", "succeeded"], ["owed"])
            clock.now += rules.SUBMIT_PATIENCE
            await second.housekeep()
            assert await states(second) == (["in_doubt", "succeeded"], ["owed"])


async def test_the_same_node_takes_up_at_once_what_it_held_when_it_died(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        await in_the_middle_of_its_work(house)
        async with beside(house, tmp_path, house.service.node) as (again, _):
            assert await states(again) == (["in_doubt", "succeeded"], ["owed"])


@pytest.mark.parametrize("node", ["two", rules.NODE])
async def test_a_new_node_sends_nothing_again_that_another_is_sending(tmp_path: Path, node: str) -> None:
    async with open_house(tmp_path) as house:
        await in_the_middle_of_its_work(house)
        sent = len([each for each in house.simulator.requests if each.route == "submit"])
        async with beside(house, tmp_path, node) as (other, _):
            assert await other.submit_next() is None
        assert len([each for each in house.simulator.requests if each.route == "submit"]) == sent
