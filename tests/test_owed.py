"""What is owed comes due: behind forerunners, after replays, cancellations, other configurations and other ends."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import House, open_house
from ledgers import end_tasks

from receiver.actions import ActionFailed, Done, Work
from receiver.housekeep import housekeep
from receiver.model import rules
from receiver.model.entries import NewEvent, Settlement
from receiver.model.records import End, Source

pytestmark = pytest.mark.story

FILES = '[[actions]]\nname = "files"\nkind = "python"\nfunction = "effects:files"\n'
TELL = '[[actions]]\nname = "tell"\nkind = "python"\nfunction = "effects:tell"\n'
AFTER = 'after = ["files"]\n'
ORDERED = FILES + TELL + AFTER


@pytest.fixture
async def ordered(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, ORDERED) as house:
        yield house


async def end(house: House) -> str:
    """A task that has ended, with what it owes; nothing has run."""
    (task,) = await end_tasks(house.store, 1, house.service.definitions, house.clock())
    return task.id


async def states(house: House, task_id: str) -> dict[str, str]:
    """The newest action of each definition."""
    return {each.name: each.state for each in (await house.task(task_id)).actions}


async def action_id(house: House, task_id: str, name: str) -> int:
    return next(each.id for each in (await house.task(task_id)).actions if each.name == name)


async def configured(house: House, directory: Path, toml: str) -> None:
    (directory / "receiver.toml").write_text(toml)
    await house.reopen()


async def test_what_a_missing_definition_owes_is_skipped_after_a_week_and_what_waits_for_it_goes_on(
    ordered: House, tmp_path: Path
) -> None:
    task_id = await end(ordered)
    await configured(ordered, tmp_path, TELL)
    await ordered.settle()
    assert await states(ordered, task_id) == {"files": "owed", "tell": "owed"}
    await ordered.advance(rules.ORPHANS_KEPT + 60)
    assert await states(ordered, task_id) == {"files": "skipped", "tell": "done"}
    assert "definition_missing" not in await ordered.alerts()


async def test_what_housekeeping_makes_due_is_looked_for_at_once(ordered: House, tmp_path: Path) -> None:
    async def has_found() -> bool:
        service = ordered.service
        return await housekeep(service.store, service.definitions, service.settings.policy, ordered.clock())

    await end(ordered)
    await configured(ordered, tmp_path, TELL)
    ordered.clock.now += rules.ORPHANS_KEPT + 60
    assert [await has_found(), await has_found()] == [True, False], "the action behind those that were skipped is due"
    await ordered.settle()
    ordered.simulator.outage("submit", "429", times=1)
    await ordered.submit()
    ordered.clock.now += 86_400
    await ordered.settle()
    ordered.clock.now -= 86_400
    assert [await has_found(), await has_found()] == [True, False], "the queue is no longer paused until tomorrow"


async def test_what_waits_for_an_action_of_a_replay_that_is_cancelled_waits_no_more(
    ordered: House, tmp_path: Path
) -> None:
    more = '[[actions]]\nname = "more"\nkind = "python"\nfunction = "effects:more"\n'
    await configured(ordered, tmp_path, ORDERED.replace('["files"]', '["files", "more"]') + more)
    task_id = await end(ordered)
    await ordered.store.skip_action(await action_id(ordered, task_id, "more"), "by hand", ordered.clock())
    await ordered.api.post("/definitions/more/pause")
    made = (await ordered.api.post("/replays", json={"filter": {"name": "more", "action_state": "skipped"}})).json()
    await ordered.settle()
    assert await states(ordered, task_id) == {"files": "done", "tell": "owed", "more": "owed"}
    await ordered.api.delete(f"/replays/{made['id']}")
    await ordered.settle()
    assert await states(ordered, task_id) == {"files": "done", "tell": "done", "more": "skipped"}


@pytest.mark.parametrize("mode", ["retry", "again"])
async def test_a_replay_keeps_the_order_of_the_actions_of_an_event(ordered: House, mode: str) -> None:
    task_id = await end(ordered)
    await ordered.settle()
    ordered.effects.clear()
    ordered.clock.now += 60
    await ordered.api.post("/definitions/files/pause")
    order = {"mode": mode, "filter": {"action_state": "done"}}
    assert (await ordered.api.post("/replays", json=order)).json()["matched"] == 2
    await ordered.settle()
    assert ordered.effects_of(task_id) == []
    await ordered.api.post("/definitions/files/resume")
    await ordered.settle()
    assert ordered.effects_of(task_id) == ["files", "tell"]


@pytest.mark.parametrize("mode", ["retry", "again"])
async def test_a_replay_that_is_cancelled_and_resumed_keeps_the_order_too(ordered: House, mode: str) -> None:
    task_id = await end(ordered)
    await ordered.settle()
    ordered.effects.clear()
    ordered.clock.now += 60
    await ordered.api.post("/definitions/files/pause")
    order = {"mode": mode, "filter": {"action_state": "done"}}
    number = (await ordered.api.post("/replays", json=order)).json()["id"]
    cancelled = (await ordered.api.delete(f"/replays/{number}")).json()
    assert (cancelled["cancelled"], cancelled["done"], cancelled["state"]) == (2, 0, "cancelled")
    resumed = (await ordered.api.post(f"/replays/{number}/resume")).json()
    assert (resumed["cancelled"], resumed["done"], resumed["state"]) == (0, 0, "running")
    await ordered.settle()
    assert ordered.effects_of(task_id) == []
    await ordered.api.post("/definitions/files/resume")
    await ordered.settle()
    assert ordered.effects_of(task_id) == ["files", "tell"]
    assert (await ordered.api.get(f"/replays/{number}")).json()["done"] == 2


async def test_missing_is_cancelled_and_resumed_as_well(ordered: House, tmp_path: Path) -> None:
    task_id = await end(ordered)
    await ordered.settle()
    await configured(ordered, tmp_path, ORDERED + TELL.replace("tell", "new"))
    made = (await ordered.api.post("/replays", json={"mode": "missing", "rate": 0.1, "all": True})).json()
    assert made["matched"] == 1
    await ordered.api.delete(f"/replays/{made['id']}")
    await ordered.settle()
    assert (await states(ordered, task_id))["new"] == "skipped"
    assert (await ordered.api.post("/replays", json={"mode": "missing", "all": True})).json()["matched"] == 0
    await ordered.api.post(f"/replays/{made['id']}/resume")
    await ordered.settle()
    assert (await states(ordered, task_id))["new"] == "done"
    assert (await ordered.api.get(f"/replays/{made['id']}")).json()["state"] == "done"


async def test_a_new_generation_waits_for_what_an_earlier_one_still_owes(ordered: House) -> None:
    await ordered.api.post("/definitions/files/pause")
    task_id = await end(ordered)
    await ordered.store.skip_action(await action_id(ordered, task_id, "tell"), "by hand", ordered.clock())
    assert (await ordered.api.post("/replays", json={"mode": "again", "all": True})).json()["matched"] == 1
    await ordered.settle()
    assert ordered.effects_of(task_id) == []
    await ordered.api.post("/definitions/files/resume")
    await ordered.settle()
    assert [each.key for each in ordered.effects] == [f"{task_id}:files:1", f"{task_id}:tell:2"]


async def test_what_was_held_for_a_claim_is_owed_for_the_end_that_contradicts_it(tmp_path: Path) -> None:
    toml = TELL + 'on = ["succeeded", "failed"]\n' + FILES
    async with open_house(tmp_path, toml) as house:
        task_id = await house.submit()
        await house.service.submit_next()
        for told, confirmed in ((End.SUCCEEDED, False), (End.FAILED, True)):
            task = await house.store.task(task_id)
            assert task is not None
            event = NewEvent(task=task, state=told, source=Source.CALLBACK, confirmed=confirmed, settled=confirmed)
            await house.store.record_event(event, rules.owed(house.service.definitions, event), house.clock())
        assert await house.service.dispatch_next(house.service.definitions[0]) is not None
        assert [(work.definition.name, work.body["type"]) for work in house.effects] == [("tell", "task.failed")]
        assert await states(house, task_id) == {"tell": "done", "files": "skipped"}


async def test_what_no_definition_would_run_is_not_owed_again(ordered: House, tmp_path: Path) -> None:
    task_id = await end(ordered)
    made = (await ordered.api.post("/replays", json={"mode": "again", "rate": 0.01, "all": True})).json()
    await ordered.api.delete(f"/replays/{made['id']}")
    await configured(ordered, tmp_path, TELL)
    number = await action_id(ordered, task_id, "files")
    answer = await ordered.api.post(f"/actions/{number}/retry")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "definition_gone")
    gone = {"filter": {"name": "files", "action_state": "skipped"}}
    assert (await ordered.api.post("/replays", json={**gone, "dry_run": True})).json()["matched"] == 0
    assert (await ordered.api.post("/replays", json=gone)).json()["matched"] == 0
    assert (await states(ordered, task_id))["files"] == "owed"
    assert "definition_missing" in await ordered.alerts()


async def test_what_is_done_already_is_not_done_twice_when_retry_is_pressed_twice(ordered: House) -> None:
    task_id = await end(ordered)
    await ordered.settle()
    ordered.effects.clear()
    order = {"filter": {"action_state": "done", "name": "files"}}
    assert (await ordered.api.post("/replays", json=order)).json()["matched"] == 1
    await ordered.settle()
    assert (await ordered.api.post("/replays", json=order)).json()["matched"] == 0
    ordered.clock.now += rules.PRESSED_TWICE + 1
    assert (await ordered.api.post("/replays", json=order)).json()["matched"] == 1
    await ordered.settle()
    assert ordered.effects_of(task_id) == ["files"] * 2


async def test_what_a_cancelled_replay_left_and_is_skipped_by_hand_counts_as_cancelled(ordered: House) -> None:
    async def fail(_: Work) -> Done:
        raise ActionFailed("broken", permanent=True)

    ordered.effect = fail
    tasks = [await end(ordered) for _ in range(3)]
    await ordered.settle()
    made = (await ordered.api.post("/replays", json={"rate": 0.1, "all": True})).json()
    await ordered.api.delete(f"/replays/{made['id']}")
    await ordered.api.post(f"/actions/{await action_id(ordered, tasks[0], 'files')}/skip")
    shown = (await ordered.api.get(f"/replays/{made['id']}")).json()
    assert (shown["matched"], shown["done"], shown["cancelled"]) == (3, 0, 3)


async def test_the_alert_of_dead_actions_closes_with_the_last_of_them(ordered: House) -> None:
    async def fail(_: Work) -> Done:
        raise ActionFailed("broken", permanent=True)

    ordered.effect = fail
    tasks = [await end(ordered) for _ in range(2)]
    await ordered.settle()
    for task_id, is_open in zip(tasks, (True, False), strict=True):
        await ordered.api.post(f"/actions/{await action_id(ordered, task_id, 'files')}/skip")
        assert ("action_dead" in await ordered.alerts()) == is_open


async def test_the_alert_of_an_open_breaker_closes_when_its_definition_is_gone(tmp_path: Path) -> None:
    async with open_house(tmp_path, FILES + "breaker = 1\n") as house:
        await end(house)
        claimed = await house.store.claim_action("files", house.clock(), 60)
        assert claimed is not None
        unwell = Settlement(outcome="retry", due_at=house.clock(), reason="no answer", unwell=True)
        await house.store.settle_action(claimed, unwell, house.clock())
        assert "breaker_open" in await house.alerts()
        await configured(house, tmp_path, TELL)
        assert "breaker_open" not in await house.alerts()


async def test_what_a_replay_has_begun_is_not_cancelled_with_it(ordered: House) -> None:
    async def fail(_: Work) -> Done:
        raise ActionFailed("broken", permanent=len(ordered.effects) == 1)

    ordered.effect = fail
    task_id = await end(ordered)
    await ordered.settle()
    made = (await ordered.api.post("/replays", json={"all": True})).json()
    await ordered.settle()
    shown = (await ordered.api.delete(f"/replays/{made['id']}")).json()
    assert (shown["matched"], shown["cancelled"], shown["state"]) == (1, 0, "running")
    action = next(each for each in (await ordered.task(task_id)).actions if each.name == "files")
    assert (action.state, action.attempts, action.reason) == ("owed", 1, "broken")


async def test_housekeeping_goes_on_when_the_clock_is_set_back(ordered: House) -> None:
    await ordered.service.housekeep()
    assert await ordered.service.housekeeping_due() == ordered.clock() + 10
    ordered.clock.now -= 1e6
    assert await ordered.service.housekeeping_due() == ordered.clock()


async def test_a_replay_that_was_over_when_it_was_cancelled_is_done(ordered: House) -> None:
    await end(ordered)
    await ordered.settle()
    made = (await ordered.api.post("/replays", json={"filter": {"action_state": "done"}})).json()
    await ordered.settle()
    shown = (await ordered.api.delete(f"/replays/{made['id']}")).json()
    assert (shown["matched"], shown["done"], shown["cancelled"], shown["state"]) == (2, 2, 0, "done")


async def test_again_keeps_to_its_rate(tmp_path: Path) -> None:
    async with open_house(tmp_path, FILES) as house:
        for _ in range(3):
            await end(house)
        await house.settle()
        house.effects.clear()
        assert (await house.api.post("/replays", json={"mode": "again", "rate": 1, "all": True})).json()["matched"] == 3
        await house.settle()
        assert len(house.effects) == 1
        await house.advance(1.5)
        assert len(house.effects) == 2
