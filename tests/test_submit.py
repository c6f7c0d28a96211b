"""Submitting: the row comes first, nothing is sent twice, and a lost answer is not a lost task."""

from pathlib import Path

import pytest
from house import INPUT, MODEL, House, open_house
from test_stories import callback_of

from receiver.simulator import Fault

pytestmark = pytest.mark.story


async def test_the_request_carries_the_input_and_a_callback_url_of_the_tasks_own(house: House) -> None:
    first, second = await house.submit(), await house.submit()
    await house.settle()
    sent = [request.document for request in house.simulator.requests if request.route == "submit"]
    urls = [document.pop("webhookUrl") for document in sent]
    assert sent == [INPUT, INPUT]
    assert [house.service.links.read_url(url).task_id for url in urls] == [first, second]  # type: ignore[union-attr]


async def test_no_more_than_max_in_flight_are_with_the_provider(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "2"}) as house:
        tasks = [await house.submit() for _ in range(5)]
        await house.settle()
        assert house.simulator.count("submit") == 2
        await house.advance(30)
        assert [(await house.task(task)).state for task in tasks] == ["succeeded"] * 5


@pytest.mark.parametrize("kind", ["429", "refused"])
async def test_an_answer_that_says_not_taken_pauses_the_queue_and_the_task_is_sent_later(
    house: House, kind: str
) -> None:
    house.simulator.outage("submit", kind, times=1)
    first, second = await house.submit(), await house.submit()
    await house.settle()
    assert [(await house.task(task)).state for task in (first, second)] == ["queued", "queued"]
    assert house.simulator.count("submit") == 1
    await house.advance(60)
    assert [(await house.task(task)).state for task in (first, second)] == ["succeeded", "succeeded"]


async def test_the_providers_own_queue_limit_pauses_the_queue(tmp_path: Path) -> None:
    async with open_house(tmp_path, max_in_flight=1) as house:
        tasks = [await house.submit() for _ in range(3)]
        await house.advance(120)
        assert [(await house.task(task)).state for task in tasks] == ["succeeded"] * 3
        assert len(house.simulator.tasks) == 3


@pytest.mark.parametrize("kind", ["500", "503", "junk", "slow"])
async def test_an_answer_that_proves_nothing_leaves_the_task_in_doubt_and_it_is_never_sent_again(
    house: House, kind: str
) -> None:
    house.simulator.outage("submit", kind, times=1)
    task_id = await house.submit()
    await house.settle()
    assert (await house.task(task_id)).state == "in_doubt"
    assert "task_in_doubt" in await house.alerts()
    await house.advance(3600)
    assert house.simulator.count("submit") == 1


async def test_a_task_whose_answer_was_lost_ends_when_its_callback_comes(house: House) -> None:
    task_id = await house.submit(Fault.ANSWER_LOST)
    await house.settle()
    assert (await house.task(task_id)).state == "in_doubt"
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert task.provider_task_id in house.simulator.tasks
    assert [check.kind for check in task.checks] == ["submit", "detail", "query"]
    assert house.simulator.count("submit") == 1
    assert house.effects_of(task_id) == ["on-success"]
    assert "task_in_doubt" not in await house.alerts()


async def test_a_task_in_doubt_does_not_adopt_another_tasks_id(house: House) -> None:
    other = await house.submit(Fault.LATE, delay=9000.0)
    await house.settle()
    other_id = (await house.task(other)).provider_task_id or ""
    task_id = await house.submit(Fault.ANSWER_LOST, Fault.NEVER_SENT)
    await house.settle()
    await house.http.post(house.callback_path(task_id), content=callback_of(other_id))
    await house.advance(20)
    task = await house.task(task_id)
    assert (task.state, task.provider_task_id) == ("in_doubt", None)
    assert task.deliveries[0].contradicting
    assert house.effects_of(task_id) == []


async def test_a_task_in_doubt_adopts_nothing_that_the_provider_does_not_know(house: House) -> None:
    task_id = await house.submit(Fault.ANSWER_LOST, Fault.NEVER_SENT)
    await house.settle()
    await house.http.post(house.callback_path(task_id), content=callback_of("2052287938007814145"))
    await house.advance(300)
    task = await house.task(task_id)
    assert (task.state, task.provider_task_id) == ("in_doubt", None)


async def test_a_task_in_doubt_counts_as_in_flight_for_a_quarter_of_an_hour(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "1"}) as house:
        house.simulator.outage("submit", "500", times=1)
        await house.submit()
        second = await house.submit()
        await house.advance(890)
        assert (await house.task(second)).state == "queued"
        await house.advance(20)
        assert (await house.task(second)).state != "queued"


async def test_a_task_in_doubt_of_which_nothing_is_heard_is_lost_after_a_day(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    task_id = await house.submit()
    await house.advance(86_000)
    assert (await house.task(task_id)).state == "in_doubt"
    await house.advance(500)
    assert (await house.task(task_id)).state == "lost"


async def test_submitting_again_by_hand_makes_a_new_task_and_leaves_the_old_one(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    task_id = await house.submit()
    await house.settle()
    answer = await house.api.post(f"/tasks/{task_id}/submit-again")
    assert answer.status_code == 202
    again = answer.json()
    assert (again["again_of"], again["input"]) == (task_id, INPUT)
    await house.advance(10)
    assert (await house.task(again["id"])).state == "succeeded"
    assert (await house.task(task_id)).state == "in_doubt"


async def test_a_refusal_ends_the_task_as_rejected_with_the_providers_code(house: House) -> None:
    await house.reopen(RUNNINGHUB_API_KEY="another-key-of-thirty-two-letters")
    task_id = await house.submit()
    await house.settle()
    task = await house.task(task_id)
    assert task.state == "rejected"
    assert task.error is not None
    assert (task.error.code, task.error.name) == ("1002", "INVALID_KEY")
    assert house.effects_of(task_id) == ["on-failure"]
    assert "provider_key_refused" in await house.alerts()


async def test_a_crash_while_sending_leaves_the_task_in_doubt(house: House) -> None:
    task_id = await house.submit()
    taken = await house.store.take_queued_task(house.clock(), 10, callback=True)
    assert taken is not None
    assert (await house.task(task_id)).state == "submitting"
    await house.reopen()
    assert (await house.task(task_id)).state == "in_doubt"
    await house.settle()
    assert house.simulator.count("submit") == 0


async def test_a_fast_task_that_ends_within_its_submission_is_recorded_at_once(house: House) -> None:
    task_id = await house.submit(Fault.BEFORE_ANSWER, Fault.NEVER_SENT, answer_says_end=True)
    await house.settle()
    assert (await house.task(task_id)).state == "succeeded"


async def test_the_same_key_and_body_is_the_same_task_and_another_body_is_a_conflict(house: House) -> None:
    key = {"Idempotency-Key": "one"}
    order = {"target": MODEL, "input": INPUT}
    first = await house.api.post("/tasks", json=order, headers=key)
    second = await house.api.post("/tasks", json={**order, "target": f"/openapi/v2/{MODEL}"}, headers=key)
    third = await house.api.post("/tasks", json={**order, "input": {**INPUT, "seed": 7}}, headers=key)
    assert (first.status_code, second.status_code, third.status_code) == (202, 200, 409)
    assert first.json()["id"] == second.json()["id"]
    await house.advance(10)
    assert house.simulator.count("submit") == 1


async def test_without_an_api_key_submitting_is_refused_and_receiving_works(house: House) -> None:
    task_id = await house.submit()
    await house.settle()
    await house.reopen(RUNNINGHUB_API_KEY="")
    answer = await house.api.post("/tasks", json={"target": MODEL, "input": INPUT})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_api_key")
    await house.advance(3)
    posted = await house.http.post(house.callback_path(task_id), content=callback_of("1"))
    assert posted.status_code == 200


BAD_ORDERS = [
    ({}, "target"),
    ({"target": ""}, "target"),
    ({"target": 7}, "target"),
    ({"target": "../etc/passwd"}, "target"),
    ({"target": "a//b"}, "target"),
    ({"target": "https://evil.test/x"}, "target"),
    ({"target": "query"}, "target"),
    ({"target": "x" * 300}, "target"),
    ({"target": MODEL, "input": []}, "input"),
    ({"target": MODEL, "input": {"webhookUrl": "http://x"}}, "input.webhookUrl"),
    ({"target": MODEL, "labels": {"a": 1}}, "labels.a"),
    ({"target": MODEL, "labels": []}, "labels"),
    ({"target": MODEL, "kind": "novel"}, "kind"),
    ({"target": MODEL, "inputs": {}}, "inputs"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("order", "path"), BAD_ORDERS)
async def test_a_bad_order_is_refused_with_the_path_of_what_is_wrong(
    shared_house: House, order: dict[str, object], path: str
) -> None:
    answer = await shared_house.api.post("/tasks", json=order)
    assert answer.status_code == 422
    assert path in [problem["path"] for problem in answer.json()["error"]["details"]]
    assert (await shared_house.api.get("/tasks")).json()["items"] == []


async def test_a_queued_task_is_cancelled_at_once_and_never_sent(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "1"}) as house:
        await house.submit()
        second = await house.submit()
        await house.settle()
        answer = await house.api.post(f"/tasks/{second}/cancel")
        assert answer.json()["state"] == "cancelled"
        await house.advance(60)
        assert house.simulator.count("submit") == 1
        assert house.effects_of(second) == ["on-failure"]


async def test_a_submitted_task_is_cancelled_at_the_provider(house: House) -> None:
    task_id = await house.submit()
    await house.settle()
    answer = await house.api.post(f"/tasks/{task_id}/cancel")
    assert answer.status_code == 200
    await house.advance(10)
    assert (await house.task(task_id)).state == "cancelled"
    await house.advance(900)
    assert await house.alerts() == []
    again = await house.api.post(f"/tasks/{task_id}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "ended")
