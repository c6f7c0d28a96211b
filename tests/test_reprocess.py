"""Reading kept callbacks anew: what an older receiver could not read, or read badly."""

import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import ON_END, House, open_house

from receiver.model.entries import NewDelivery, NewEvent
from receiver.model.records import End, Purpose, Source

pytestmark = pytest.mark.story


@pytest.fixture
async def believing(tmp_path: Path) -> AsyncIterator[House]:
    """A house that takes callbacks at their word, and a provider that has fallen silent."""
    async with open_house(tmp_path, ON_END, {"RECEIVER_CONFIRM": "false"}) as house:
        yield house


async def submitted(house: House) -> str:
    task_id = await house.submit()
    await house.service.submit_next()
    return task_id


async def kept(house: House, task_id: str, *, problem: str | None, claim: End | None = None, cut: bool = False) -> None:
    """A callback as an older receiver kept it."""
    task = await house.task(task_id)
    results = [{"url": "https://results.test/one.png", "outputType": "png"}, {"text": "a poem"}]
    told = {"taskId": task.provider_task_id, "status": "SUCCESS", "errorCode": "", "results": results}
    body = json.dumps({"event": "TASK_END", "taskId": task.provider_task_id, "eventData": told}).encode()
    new = NewDelivery(
        task=task_id,
        purpose=Purpose.SUBMIT,
        body=body,
        digest=hashlib.sha256(body).digest(),
        size=len(body) * 2 if cut else len(body),
        provider_task_id=task.provider_task_id if claim else None,
        claim=claim,
        problem=problem,
    )
    await house.store.record_delivery(new, house.clock())


async def reprocess(house: House, **order: object) -> dict[str, object]:
    answer = await house.api.post("/replays", json={"mode": "reprocess", "all": "filter" not in order, **order})
    assert answer.status_code == (200 if order.get("dry_run") else 202), answer.text
    made: dict[str, object] = answer.json()
    return made


async def test_what_could_not_be_read_becomes_the_end_of_its_task(believing: House) -> None:
    house = believing
    task_id = await submitted(house)
    await kept(house, task_id, problem="eventData is no object")
    await house.service.reconcile_next()
    assert (await house.task(task_id)).state == "submitted"
    assert (await reprocess(house, dry_run=True))["matched"] == 1
    made = await reprocess(house)
    assert (made["matched"], made["done"], made["state"]) == (1, 1, "done")
    await house.service.reconcile_next()
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert [each.readable for each in task.deliveries] == [True]
    await house.settle()
    assert house.effects_of(task_id) == ["on-success"]


async def test_results_that_were_overlooked_are_found_and_nothing_runs_twice(believing: House) -> None:
    house = believing
    task_id = await submitted(house)
    await kept(house, task_id, problem=None, claim=End.SUCCEEDED)
    task = await house.store.task(task_id)
    assert task is not None
    event = NewEvent(task=task, state=End.SUCCEEDED, source=Source.CALLBACK, confirmed=False, settled=True)
    await house.store.record_event(event, [], house.clock())
    assert (await house.task(task_id)).results == []
    await reprocess(house, filter={"task": task_id})
    await house.settle()
    assert [each.text or each.url for each in (await house.task(task_id)).results] == [
        "https://results.test/one.png",
        "a poem",
    ]
    assert house.effects == []


async def test_what_the_provider_confirmed_is_not_changed_by_a_callback(house: House) -> None:
    task_id = await house.submit()
    await house.advance(20)
    before = await house.task(task_id)
    await kept(house, task_id, problem=None, claim=End.SUCCEEDED)
    await reprocess(house)
    await house.settle()
    after = await house.task(task_id)
    assert (after.state, after.results, after.event) == (before.state, before.results, before.event)
    assert house.effects_of(task_id) == ["on-success"]


async def test_what_was_not_kept_whole_is_left_alone(believing: House) -> None:
    task_id = await submitted(believing)
    await kept(believing, task_id, problem="too large", cut=True)
    assert (await reprocess(believing))["matched"] == 0


async def test_a_rate_spreads_the_questions_to_the_provider(house: House) -> None:
    tasks = [await submitted(house) for _ in range(3)]
    for task_id in tasks:
        await kept(house, task_id, problem="eventData is no object")
        await house.service.reconcile_next()
    await reprocess(house, rate=0.5)
    due = [task.check_at for task in [await house.store.task(task_id) for task_id in tasks] if task]
    assert due == [house.clock() + wait for wait in (0, 2, 4)]


@pytest.mark.parametrize("narrow", [{"name": "on-success"}, {"action": 1}, {"action_state": ["dead"]}])
async def test_it_is_not_narrowed_by_actions(house: House, narrow: dict[str, object]) -> None:
    answer = await house.api.post("/replays", json={"mode": "reprocess", "filter": narrow})
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]
    assert problem["path"] == f"filter.{next(iter(narrow))}"
    assert "by task, task_state, since and until" in problem["message"]
