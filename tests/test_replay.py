"""Replaying: the same rows again, today's definitions anew, and what was never owed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import House, open_house

from receiver.actions import ActionFailed, Done, Work

pytestmark = pytest.mark.story

ONE = '[[actions]]\nname = "one"\nkind = "python"\nfunction = "effects:one"\n'
TWO = ONE + '[[actions]]\nname = "two"\nkind = "python"\nfunction = "effects:two"\n'


async def fail(_: Work) -> Done:
    raise ActionFailed("broken", permanent=True)


async def work(_: Work) -> Done:
    return Done(detail={})


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[tuple[House, list[str]]]:
    """Five tasks whose one action is dead; the world has been mended since."""
    async with open_house(tmp_path, ONE) as house:
        house.effect = fail
        tasks = [await house.submit() for _ in range(5)]
        await house.advance(30)
        house.effect = work
        house.effects.clear()
        yield house, tasks


async def test_a_dry_run_counts_and_changes_nothing(broken: tuple[House, list[str]]) -> None:
    house, _ = broken
    answer = await house.api.post("/replays", json={"filter": {"action_state": "dead"}, "dry_run": True})
    assert (answer.status_code, answer.json()["matched"]) == (200, 5)
    await house.settle()
    assert house.effects == []


async def test_dead_actions_are_retried_as_the_same_rows_with_the_same_key(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken
    answer = await house.api.post("/replays", json={"filter": {"name": "one"}})
    assert (answer.status_code, answer.json()["matched"]) == (202, 5)
    await house.settle()
    assert sorted(each.key for each in house.effects) == sorted(f"{task}:one:1" for task in tasks)
    state = (await house.api.get(f"/replays/{answer.json()['id']}")).json()
    assert (state["state"], state["done"]) == ("done", 5)
    action = (await house.task(tasks[0])).actions[0]
    assert (action.state, [each.outcome for each in action.tries]) == ("done", ["dead", "done"])
    assert "action_dead" not in await house.alerts()


async def test_pressing_twice_retries_once(broken: tuple[House, list[str]]) -> None:
    house, _ = broken
    first = await house.api.post("/replays", json={"all": True})
    second = await house.api.post("/replays", json={"all": True})
    assert (first.json()["matched"], second.json()["matched"]) == (5, 0)
    await house.settle()
    assert len(house.effects) == 5


async def test_one_action_is_retried_by_its_number(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken
    action_id = (await house.task(tasks[2])).actions[0].id
    answer = await house.api.post(f"/actions/{action_id}/retry")
    assert answer.json()["state"] == "owed"
    again = await house.api.post(f"/actions/{action_id}/retry")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "on_its_way")
    await house.settle()
    assert [each.task_id for each in house.effects] == [tasks[2]]


async def test_a_rate_spreads_a_replay_over_time(broken: tuple[House, list[str]]) -> None:
    house, _ = broken
    await house.api.post("/replays", json={"rate": 1, "all": True})
    await house.settle()
    assert len(house.effects) == 1
    await house.advance(2.5)
    assert len(house.effects) == 3


async def test_a_cancelled_replay_leaves_what_it_has_not_begun_as_it_was(broken: tuple[House, list[str]]) -> None:
    house, _ = broken
    replay_id = (await house.api.post("/replays", json={"rate": 1, "all": True})).json()["id"]
    await house.advance(1.5)
    answer = await house.api.delete(f"/replays/{replay_id}")
    assert answer.json()["state"] == "cancelled"
    await house.advance(60)
    assert len(house.effects) == 2
    dead = (await house.api.get("/actions?state=dead")).json()["items"]
    assert len(dead) == 3
    resumed = await house.api.post("/replays", json={"all": True})
    assert resumed.json()["matched"] == 3


async def test_a_filter_narrows_by_task_state_and_time(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken

    async def matched(**narrow: object) -> int:
        answer = await house.api.post("/replays", json={"filter": narrow, "dry_run": True})
        count: int = answer.json()["matched"]
        return count

    assert await matched(task=tasks[0]) == 1
    assert await matched(task_state="failed") == 0
    assert await matched(since=house.clock.now + 1) == 0
    assert await matched(until=house.clock.now + 1) == 5
    assert await matched(action_state=["done", "skipped"]) == 0


async def test_again_owes_todays_definitions_as_a_new_generation(
    broken: tuple[House, list[str]], tmp_path: Path
) -> None:
    house, tasks = broken
    (tmp_path / "receiver.toml").write_text(TWO)
    await house.reopen()
    answer = await house.api.post("/replays", json={"mode": "again", "filter": {"task": tasks[0]}})
    assert answer.json()["matched"] == 2
    await house.settle()
    assert sorted(each.key for each in house.effects) == [f"{tasks[0]}:one:2", f"{tasks[0]}:two:2"]


async def test_again_pressed_twice_repeats_no_effect_twice(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken
    order = {"mode": "again", "filter": {"name": "one"}}
    first = (await house.api.post("/replays", json=order)).json()
    await house.settle()
    second = (await house.api.post("/replays", json=order)).json()
    assert (second["id"], second["matched"]) == (first["id"], len(tasks))
    await house.settle()
    assert len(house.effects) == len(tasks)
    house.clock.now += 11
    assert (await house.api.post("/replays", json=order)).json()["id"] != first["id"]
    await house.settle()
    assert sorted(each.key for each in house.effects) == sorted(f"{task}:one:{n}" for task in tasks for n in (2, 3))


async def test_again_leaves_out_what_is_on_its_way_already(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken
    await house.api.post("/definitions/one/pause")
    await house.api.post("/replays", json={"filter": {"task": tasks[0]}})
    again = (await house.api.post("/replays", json={"mode": "again", "all": True})).json()
    assert again["matched"] == len(tasks) - 1
    await house.api.post("/definitions/one/resume")
    await house.settle()
    assert [each.key for each in house.effects if each.task_id == tasks[0]] == [f"{tasks[0]}:one:1"]


async def test_missing_owes_only_what_an_event_never_owed(broken: tuple[House, list[str]], tmp_path: Path) -> None:
    house, tasks = broken
    (tmp_path / "receiver.toml").write_text(TWO)
    await house.reopen()
    order = {"mode": "missing", "all": True}
    assert (await house.api.post("/replays", json={**order, "dry_run": True})).json()["matched"] == 5
    assert (await house.api.post("/replays", json=order)).json()["matched"] == 5
    assert (await house.api.post("/replays", json=order)).json()["matched"] == 0
    await house.settle()
    assert sorted(each.key for each in house.effects) == sorted(f"{task}:two:1" for task in tasks)


async def test_what_a_definition_owes_is_held_while_it_is_missing_and_done_when_it_is_there_again(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, ONE) as house:
        await house.api.post("/definitions/one/pause")
        task_id = await house.submit()
        await house.advance(30)
        (tmp_path / "receiver.toml").write_text(ONE.replace('"one"', '"other"'))
        await house.reopen()
        action = (await house.task(task_id)).actions[0]
        assert action.state == "owed"
        assert await house.alerts() == ["definition_missing"]
        await house.advance(86_400)
        (tmp_path / "receiver.toml").write_text(ONE)
        await house.reopen()
        await house.api.post("/definitions/one/resume")
        await house.settle()
        assert house.effects_of(task_id) == ["one"]
        assert await house.alerts() == []


async def test_a_paused_definition_waits_and_loses_nothing(tmp_path: Path) -> None:
    async with open_house(tmp_path, TWO) as house:
        assert (await house.api.post("/definitions/one/pause")).json()["paused"]
        task_id = await house.submit()
        await house.advance(600)
        assert house.effects_of(task_id) == ["two"]
        await house.reopen()
        await house.api.post("/definitions/one/resume")
        await house.settle()
        assert house.effects_of(task_id) == ["two", "one"]


async def test_a_skipped_action_is_not_run_and_can_be_retried(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken
    action_id = (await house.task(tasks[0])).actions[0].id
    assert (await house.api.post(f"/actions/{action_id}/skip")).json()["state"] == "skipped"
    await house.api.post("/replays", json={"all": True})
    await house.settle()
    assert tasks[0] not in [each.task_id for each in house.effects]
    refused = await house.api.post(f"/actions/{action_id}/skip")
    assert refused.status_code == 409


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("order", "path"),
    [
        ({"mode": "backwards"}, "mode"),
        ({"rate": 0}, "rate"),
        ({"rate": 1e-9}, "rate"),
        ({"rate": 1e300}, "rate"),
        ({"rate": True}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"dry_run": "yes"}, "dry_run"),
        ({"filter": []}, "filter"),
        ({"filter": {"colour": "red"}}, "filter.colour"),
        ({"filter": {"action_state": "asleep"}}, "filter.action_state"),
        ({"filter": {"task_state": [1]}}, "filter.task_state"),
        ({"filter": {"since": "yesterday"}}, "filter.since"),
        ({"filter": {"action": "1"}}, "filter.action"),
        ({"filter": {"action": 1 << 63}}, "filter.action"),
        ({"speed": 1}, "speed"),
    ],
)
async def test_a_bad_replay_is_refused_with_the_path_of_what_is_wrong(
    shared_house: House, order: dict[str, object], path: str
) -> None:
    answer = await shared_house.api.post("/replays", json=order)
    assert answer.status_code == 422
    assert path in [problem["path"] for problem in answer.json()["error"]["details"]]


@pytest.mark.parametrize("mode", ["retry", "again", "missing", "reprocess"])
@pytest.mark.parametrize("filter", [{}, {"name": None}, {"task_state": []}])
async def test_a_replay_of_nothing_in_particular_is_refused_unless_all_is_meant(
    broken: tuple[House, list[str]], mode: str, filter: dict[str, object]
) -> None:
    house, _ = broken
    answer = await house.api.post("/replays", json={"mode": mode, "filter": filter})
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == "filter"
    assert '"all": true' in answer.text.replace("\\", "")
    assert (await house.api.get("/replays")).json()["items"] == []
    assert (await house.api.post("/replays", json={"mode": mode, "dry_run": True})).status_code == 200
    assert (await house.api.post("/replays", json={"mode": mode, "all": True})).status_code == 202


async def test_what_a_replay_names_must_be_there(broken: tuple[House, list[str]]) -> None:
    house, tasks = broken
    order = {"filter": {"name": "oen", "task": "0000-nothing"}, "all": True, "dry_run": True}
    details = (await house.api.post("/replays", json=order)).json()["error"]["details"]
    assert {each["path"]: each["message"] for each in details} == {
        "all": "goes without a filter",
        "filter.name": "there is no action of this name; there are one",
        "filter.task": "there is no such task",
    }
    made = (await house.api.post("/replays", json={"filter": {"task": tasks[0][:30]}})).json()
    assert (made["matched"], made["filter"]) == (1, {"task": tasks[0]})
