"""What a crash leaves behind at every point of the main job, and what heals it: the actions of the task are done."""

from pathlib import Path

import pytest
from house import House, open_house

from receiver.actions import Done, Work
from receiver.model import rules
from receiver.model.entries import Settlement
from receiver.model.records import Purpose
from receiver.runninghub.requests import submit_request
from receiver.simulator import Fault

pytestmark = pytest.mark.story

LEASE = 60.0


async def test_a_crash_after_the_row_was_written_and_before_it_was_sent(house: House) -> None:
    task_id = await house.submit()
    await house.reopen()
    await house.advance(10)
    assert house.effects_of(task_id) == ["on-success"]
    assert house.simulator.count("submit") == 1


async def test_a_crash_after_the_provider_took_the_task_and_before_we_wrote_that_down(house: House) -> None:
    task_id = await house.submit()
    task = await house.store.take_queued_task(house.clock(), 10, callback=True)
    assert task is not None
    url = house.service.links.issue(task.id, Purpose.SUBMIT)
    await house.service.provider.submit(submit_request(task.kind, task.api, task.target, task.input, url))
    await house.reopen()
    assert (await house.task(task_id)).state == "in_doubt"
    await house.advance(10)
    assert house.effects_of(task_id) == ["on-success"]
    assert house.simulator.count("submit") == 1


async def test_a_crash_before_the_callback_was_committed(house: House) -> None:
    task_id = await house.submit()
    await house.settle()
    house.door_open = False
    await house.advance(6)
    await house.reopen()
    house.door_open = True
    await house.advance(40)
    assert (await house.task(task_id)).deliveries
    assert house.effects_of(task_id) == ["on-success"]
    assert await house.alerts() == []


async def test_a_crash_before_the_callback_was_committed_and_the_provider_gives_up(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    house.door_open = False
    await house.advance(300)
    await house.reopen()
    house.door_open = True
    await house.advance(300)
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_crash_after_the_callback_was_committed_and_before_it_was_answered(house: House) -> None:
    task_id = await house.submit()
    await house.service.submit_next()
    house.clock.now += 5
    await house.simulator.tick()
    await house.simulator.tick()
    body = house.simulator.callbacks[0].body
    await house.reopen()
    again = await house.http.post(house.callback_path(task_id), content=body)
    assert again.json() == {"received": True, "duplicate": True}
    await house.advance(10)
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_crash_while_the_provider_is_being_asked(house: House) -> None:
    task_id = await house.submit()
    await house.service.submit_next()
    house.clock.now += 5
    await house.simulator.tick()
    await house.simulator.tick()
    assert await house.store.take_due_task(house.clock(), 60.0) is not None
    await house.reopen()
    await house.advance(59)
    assert house.effects == []
    await house.advance(2)
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_crash_after_the_event_was_recorded_and_before_its_action_ran(house: House) -> None:
    task_id = await ended(house)
    await house.reopen()
    await house.settle()
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_crash_before_the_effect_and_after_the_claim(house: House) -> None:
    task_id = await ended(house)
    assert await house.store.claim_action("on-success", house.clock(), LEASE) is not None
    await house.reopen()
    await house.settle()
    assert house.effects_of(task_id) == ["on-success"]
    tries = (await house.task(task_id)).actions[0].tries
    assert [each.outcome for each in tries] == ["interrupted", "done"]


async def test_a_program_that_may_have_outlived_its_server_is_run_again_when_its_lease_is_over(tmp_path: Path) -> None:
    toml = '[[actions]]\nname = "on-success"\nkind = "command"\ncommand = ["true"]\n'
    async with open_house(tmp_path, toml) as house:
        task_id = await ended(house)
        assert await house.store.claim_action("on-success", house.clock(), LEASE) is not None
        await house.reopen()
        await house.settle()
        assert house.effects == []
        await house.advance(LEASE + 10)
        assert house.effects_of(task_id) == ["on-success"]


async def test_a_crash_after_the_effect_and_before_it_was_settled_repeats_it_with_the_same_key(house: House) -> None:
    task_id = await ended(house)
    old = await house.store.claim_action("on-success", house.clock(), LEASE)
    assert old is not None
    await house.reopen()
    await house.advance(LEASE + 10)
    assert [work.key for work in house.effects] == [f"{task_id}:on-success:1"]
    assert not await house.store.settle_action(old, Settlement(outcome="dead", reason="late"), house.clock())
    assert (await house.task(task_id)).actions[0].state == "done"


async def test_a_worker_that_wakes_late_cannot_settle_what_another_holds(house: House) -> None:
    await ended(house)
    old = await house.store.claim_action("on-success", house.clock(), LEASE)
    assert old is not None
    house.clock.now += LEASE + 1
    await house.service.housekeep()
    new = await house.store.claim_action("on-success", house.clock(), LEASE)
    assert new is not None
    now = house.clock()
    assert not await house.store.renew_lease(old, now + LEASE)
    assert not await house.store.settle_action(old, Settlement(outcome="done"), now)
    assert await house.store.settle_action(new, Settlement(outcome="done"), now)
    assert not await house.store.settle_action(new, Settlement(outcome="done"), now)


async def test_an_action_whose_worker_dies_at_every_try_is_dead_when_its_tries_are_used_up(tmp_path: Path) -> None:
    toml = '[[actions]]\nname = "on-success"\nkind = "python"\nfunction = "effects:x"\nmax_attempts = 2\n'
    async with open_house(tmp_path, toml) as house:
        task_id = await ended(house)
        for _ in range(2):
            await crash_while_it_runs(house)
        action = (await house.task(task_id)).actions[0]
        assert (action.state, action.reason) == ("dead", "its worker died during the last try")


async def test_an_action_that_kills_its_worker_three_times_is_dead_and_a_retry_has_fresh_tries(house: House) -> None:
    task_id = await ended(house)
    for _ in range(3):
        await crash_while_it_runs(house)
    action = (await house.task(task_id)).actions[0]
    assert action.state == "dead"
    assert action.reason == "its worker died 3 times while it ran; mend what kills it, then retry it"
    assert [each.outcome for each in action.tries] == ["interrupted"] * 3
    assert "action_dead" in await house.alerts()
    await house.api.post(f"/actions/{action.id}/retry")
    await house.settle()
    assert (await house.task(task_id)).actions[0].state == "done"


async def test_what_a_crash_has_hit_is_tried_alone_so_that_neighbours_are_not_taken_along(house: House) -> None:
    tasks = [await ended(house) for _ in range(3)]
    for _ in tasks:
        assert await house.store.claim_action("on-success", house.clock(), LEASE) is not None
    house.clock.now += LEASE + 1
    await house.service.housekeep()
    fresh = await ended(house)
    suspect = await house.store.claim_action("on-success", house.clock(), LEASE)
    assert suspect is not None
    assert suspect.task.id == tasks[0]
    neighbour = await house.store.claim_action("on-success", house.clock(), LEASE)
    assert neighbour is not None
    assert neighbour.task.id == fresh
    assert await house.store.claim_action("on-success", house.clock(), LEASE) is None
    assert await house.store.settle_action(suspect, Settlement(outcome="done"), house.clock())
    second = await house.store.claim_action("on-success", house.clock(), LEASE)
    assert second is not None
    assert second.task.id == tasks[1]


async def test_a_try_that_ends_by_itself_acquits_an_action_of_the_crashes_before_it(house: House) -> None:
    task_id = await ended(house)
    for _ in range(3):
        await crash_while_it_runs(house)
        await crash_while_it_runs(house)
        due = await house.store.next_action_at("on-success", house.clock())
        assert due is not None
        house.clock.now = max(house.clock.now, due)
        tried = await house.store.claim_action("on-success", house.clock(), LEASE)
        assert tried is not None
        failed = Settlement(outcome="retry", due_at=house.clock(), reason="no answer")
        assert await house.store.settle_action(tried, failed, house.clock())
    await house.advance(10)
    assert (await house.task(task_id)).actions[0].state == "done"


async def test_after_its_first_crash_an_action_is_tried_at_once_and_after_the_next_it_waits(house: House) -> None:
    await ended(house)
    await crash_while_it_runs(house)
    assert await house.store.next_action_at("on-success", house.clock()) == house.clock()
    await crash_while_it_runs(house)
    assert rules.crash_delay(2) > 1
    assert await house.store.next_action_at("on-success", house.clock()) == house.clock() + rules.crash_delay(2)


async def crash_while_it_runs(house: House) -> None:
    """The action is claimed when it is due, and its worker is never heard of again."""
    due = await house.store.next_action_at("on-success", house.clock())
    assert due is not None
    house.clock.now = max(house.clock.now, due)
    assert await house.store.claim_action("on-success", house.clock(), LEASE) is not None
    house.clock.now += LEASE + 1
    await house.service.housekeep()


async def test_a_crash_between_a_miss_and_its_resend_still_resends_once(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    house.simulator.outage("resend", "refused")
    await house.advance(31)
    assert (await house.task(task_id)).callback.miss == "missed"
    await house.reopen()
    house.simulator.heal()
    await house.advance(120)
    assert (await house.task(task_id)).callback.miss == "late"


async def test_after_a_repetition_the_effect_was_had_twice_with_one_key(house: House) -> None:
    task_id = await ended(house)

    async def die_once(work: Work) -> Done:
        if len(house.effects) == 1:
            raise ProcessDied
        return Done(detail={"attempt": work.attempt})

    house.effect = die_once
    try:
        await house.settle()
    except ProcessDied:
        await house.reopen()
    await house.advance(LEASE + 10)
    assert [work.key for work in house.effects] == [f"{task_id}:on-success:1"] * 2


class ProcessDied(BaseException):
    """Nothing of ours may catch this, as nothing catches a SIGKILL."""


async def ended(house: House) -> str:
    """A task that succeeded, whose action is owed and has not run."""
    task_id = await house.submit()
    await house.service.submit_next()
    house.clock.now += 5
    await house.simulator.tick()
    await house.simulator.tick()
    await house.service.reconcile_next()
    assert (await house.task(task_id)).actions[0].state == "owed"
    return task_id
