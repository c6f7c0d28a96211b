"""The main job, told as stories: submit, receive, confirm, act, and what happens when something is late or false."""

from pathlib import Path

import msgspec
import pytest
from house import INPUT, MODEL, START, House, open_house
from test_receive import BODIES

from receiver.actions import ActionFailed, Done, Work
from receiver.model.records import Purpose
from receiver.simulator import Fault

pytestmark = pytest.mark.story


def callback_of(provider_task_id: str, status: str = "SUCCESS", **more: object) -> bytes:
    """A V2 callback's body, as anybody who knows the URL could write it."""
    outcome = {
        "taskId": provider_task_id,
        "status": status,
        "results": [{"url": "http://evil.test/x.mp4", "outputType": "mp4"}] if status == "SUCCESS" else None,
        **more,
    }
    return msgspec.json.encode({"eventData": outcome, "event": "TASK_END", "taskId": provider_task_id})


async def test_a_task_is_submitted_called_back_confirmed_and_acted_on(house: House) -> None:
    task_id = await house.submit()
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert task.event is not None
    assert (task.event.source, task.event.confirmed) == ("callback", True)
    assert [check.kind for check in task.checks] == ["submit", "query"]
    assert house.effects_of(task_id) == ["on-success"]
    assert task.results[0].url is not None
    assert await house.alerts() == []


async def test_a_task_that_fails_runs_the_action_for_failure_and_says_why(house: House) -> None:
    task_id = await house.submit(Fault.FAILED, error_code="1501")
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "failed"
    assert task.error is not None
    assert (task.error.code, task.error.name) == ("1501", "CONTENT_REFUSED")
    assert house.effects_of(task_id) == ["on-failure"]


async def test_an_action_receives_the_whole_event_document(house: House) -> None:
    answer = await house.api.post("/tasks", json={"target": MODEL, "input": INPUT, "labels": {"project": "x"}})
    task_id = answer.json()["id"]
    await house.advance(10)
    body = house.effects[0].body
    assert set(body) == {
        "type",
        "id",
        "time",
        "source",
        "confirmed",
        "task",
        "results",
        "error",
        "usage",
        "action",
        "idempotency_key",
    }
    assert body["type"] == "task.succeeded"
    assert body["idempotency_key"] == f"{task_id}:on-success:1"
    assert str(body["time"]).endswith("Z")
    task = body["task"]
    assert isinstance(task, dict)
    assert task["labels"] == {"project": "x"}
    assert task["target"] == MODEL


async def test_a_callback_may_overtake_its_own_submit_answer(house: House) -> None:
    task_id = await house.submit(Fault.BEFORE_ANSWER)
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert task.event is not None
    assert task.event.source == "callback"
    assert task.deliveries[0].received_at <= (task.submitted_at or "")
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_callback_that_overtakes_its_answer_is_believed_directly_when_confirming_is_off(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_CONFIRM": "false"}) as house:
        task_id = await house.submit(Fault.BEFORE_ANSWER)
        await house.advance(10)
        task = await house.task(task_id)
        assert task.state == "succeeded"
        assert task.provider_task_id is not None
        assert [check.kind for check in task.checks] == ["submit"]
        assert house.effects_of(task_id) == ["on-success"]


async def test_three_tellings_are_one_event(house: House) -> None:
    task_id = await house.submit(Fault.DUPLICATE)
    await house.advance(10)
    await house.api.post(f"/tasks/{task_id}/reconcile")
    await house.api.post(f"/tasks/{task_id}/resend")
    await house.advance(120)
    task = await house.task(task_id)
    events = (await house.api.get("/events")).json()["items"]
    assert [event["task"] for event in events] == [task_id]
    assert [(delivery.purpose, delivery.count) for delivery in task.deliveries] == [("submit", 2), ("resend", 1)]
    assert house.effects_of(task_id) == ["on-success"]
    totals = await house.totals()
    assert (totals["callbacks_received"], totals["callbacks_repeated"]) == (2, 1)


async def test_a_late_callback_revives_a_lost_task(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[reconcile]\npatience = 600\n") as house:
        task_id = await house.submit(Fault.LATE, Fault.FORGOTTEN, delay=7200.0, detail_knows=False)
        await house.advance(3600)
        assert (await house.task(task_id)).state == "lost"
        assert "task_lost" in await house.alerts()
        while (await house.task(task_id)).state == "lost":
            await house.advance(60)
        task = await house.task(task_id)
        assert task.state == "succeeded"
        assert task.event is not None
        assert (task.event.source, task.event.confirmed) == ("callback", False)
        assert "task_lost" not in await house.alerts()
        await house.advance(3600)  # RunningHub has not known the task for the whole patience since
        assert "task_lost" in await house.alerts()
        assert (await house.task(task_id)).state == "succeeded"


async def test_a_callback_that_claims_success_for_a_failed_task_runs_no_action_for_success(house: House) -> None:
    task_id = await house.submit(Fault.FALSE_CLAIM)
    await house.advance(900)
    task = await house.task(task_id)
    assert task.state == "failed"
    assert task.deliveries[0].claim == "succeeded"
    assert house.effects_of(task_id) == ["on-failure"]


async def test_a_callback_that_runs_ahead_of_the_provider_is_asked_about_until_the_provider_agrees(
    house: House,
) -> None:
    task_id = await house.submit(Fault.EARLY_CLAIM, seconds=60.0)
    await house.advance(30)
    assert (await house.task(task_id)).state == "submitted"
    assert house.effects == []
    await house.advance(90)
    assert (await house.task(task_id)).state == "succeeded"
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_callback_for_another_tasks_id_changes_nothing(house: House) -> None:
    task_id = await house.submit()
    await house.settle()
    answer = await house.http.post(house.callback_path(task_id), content=callback_of("2052287938007814145"))
    assert answer.status_code == 200
    await house.settle()
    task = await house.task(task_id)
    assert task.state == "submitted"
    assert task.deliveries[0].contradicting
    assert task.callback.delivered_at is None
    assert house.simulator.count("query") == 0
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert task.results[0].url != "http://evil.test/x.mp4"


async def test_the_results_come_from_the_provider_and_not_from_the_callback(house: House) -> None:
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.advance(6)
    provider_task_id = (await house.task(task_id)).provider_task_id
    assert provider_task_id is not None
    await house.http.post(house.callback_path(task_id), content=callback_of(provider_task_id))
    await house.settle()
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert "evil" not in str(task.results)


async def test_an_unconfirmed_event_runs_only_what_may_run_unconfirmed_and_the_rest_once_it_is_confirmed(
    tmp_path: Path,
) -> None:
    toml = """
    [[actions]]
    name = "save"
    kind = "download"
    [[actions]]
    name = "publish"
    kind = "python"
    function = "effects:publish"
    """
    async with open_house(tmp_path, toml) as house:
        task_id = await house.submit()
        await house.settle()
        house.simulator.outage("query", "503")
        house.simulator.outage("detail", "refused")
        await house.advance(500)
        assert house.effects == []
        await house.advance(300)
        task = await house.task(task_id)
        assert task.event is not None
        assert (task.state, task.event.confirmed) == ("succeeded", False)
        assert house.effects_of(task_id) == ["save"]
        assert "provider_unreachable" in await house.alerts()
        house.simulator.heal()
        await house.advance(700)
        task = await house.task(task_id)
        assert task.event is not None
        assert task.event.confirmed
        assert house.effects_of(task_id) == ["save", "publish"]
        assert "provider_unreachable" not in await house.alerts()


async def test_a_contradicted_event_follows_the_provider_and_undoes_nothing(house: House) -> None:
    task_id = await house.submit(Fault.FALSE_CLAIM)
    await house.settle()
    house.simulator.outage("query", "503")
    house.simulator.outage("detail", "503")
    await house.advance(900)
    task = await house.task(task_id)
    assert task.event is not None
    assert (task.state, task.event.confirmed) == ("succeeded", False)
    house.simulator.heal()
    await house.advance(900)
    task = await house.task(task_id)
    assert task.event is not None
    assert (task.state, task.event.confirmed, task.event.contradicted) == ("failed", True, True)
    assert house.effects_of(task_id) == ["on-failure"]
    assert {action.name: action.state for action in task.actions} == {"on-success": "skipped", "on-failure": "done"}
    assert "event_contradicted" in await house.alerts()


async def test_without_confirming_the_body_is_believed(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_CONFIRM": "false"}) as house:
        task_id = await house.submit()
        await house.advance(10)
        task = await house.task(task_id)
        assert task.event is not None
        assert (task.state, task.event.confirmed) == ("succeeded", False)
        assert house.simulator.count("query") == 0
        assert house.effects_of(task_id) == ["on-success"]


async def test_without_a_public_url_a_task_is_followed_by_asking(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_PUBLIC_URL": ""}) as house:
        task_id = await house.submit()
        await house.advance(60)
        task = await house.task(task_id)
        assert task.event is not None
        assert (task.state, task.event.source, task.callback.sent) == ("succeeded", "query", False)
        assert house.simulator.count("detail") == 0
        assert await house.alerts() == []


async def test_a_leaked_url_costs_one_question_in_ten_seconds_and_fifty_rows(house: House) -> None:
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.settle()
    provider_task_id = (await house.task(task_id)).provider_task_id or ""
    house.simulator.outage("query", "503")
    path = house.callback_path(task_id)
    for number in range(200):
        answer = await house.http.post(path, content=callback_of(provider_task_id, note=number))
        assert answer.status_code == 200
        if number % 20 == 0:
            await house.settle()
    asked = house.simulator.count("query")
    task = await house.task(task_id)
    assert len(task.deliveries) == 50
    assert asked <= 3  # one question, read three times in all
    assert (await house.totals())["callbacks_received"] == 200


async def test_a_confirmed_task_is_not_asked_about_whatever_is_posted(house: House) -> None:
    task_id = await house.submit()
    await house.advance(10)
    asked = house.simulator.count("query")
    provider_task_id = (await house.task(task_id)).provider_task_id or ""
    answer = await house.http.post(house.callback_path(task_id), content=callback_of(provider_task_id, "FAILED"))
    assert answer.status_code == 200
    await house.advance(3600)
    assert house.simulator.count("query") == asked
    assert (await house.task(task_id)).state == "succeeded"


@pytest.mark.parametrize("fault", [Fault.JUNK_BODY, Fault.HUGE_BODY])
async def test_a_callback_that_cannot_be_read_is_kept_and_makes_the_task_due(house: House, fault: Fault) -> None:
    task_id = await house.submit(fault, megabytes=5.0)
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert not task.deliveries[0].readable
    assert await house.alerts() == []


async def test_an_action_that_fails_is_tried_again_and_dies_with_its_reason(tmp_path: Path) -> None:
    toml = '[[actions]]\nname = "tell"\nkind = "python"\nfunction = "effects:tell"\nmax_attempts = 3\n'
    async with open_house(tmp_path, toml) as house:

        async def fail(_: Work) -> Done:
            raise ActionFailed("the other side is down", detail={"status": 500})

        house.effect = fail
        task_id = await house.submit()
        await house.advance(60)
        action = (await house.task(task_id)).actions[0]
        assert (action.state, action.attempts, action.reason) == ("dead", 3, "the other side is down")
        assert [(each.outcome, each.detail["status"]) for each in action.tries] == [
            ("retry", 500),
            ("retry", 500),
            ("dead", 500),
        ]
        assert "action_dead" in await house.alerts()


async def test_a_permanent_failure_is_not_tried_again(house: House) -> None:
    async def stop(_: Work) -> Done:
        raise ActionFailed("it said 410", permanent=True)

    house.effect = stop
    task_id = await house.submit()
    await house.advance(600)
    assert len(house.effects_of(task_id)) == 1
    assert (await house.task(task_id)).actions[0].state == "dead"


async def test_an_action_that_waits_for_another_runs_after_it(tmp_path: Path) -> None:
    toml = """
    [[actions]]
    name = "second"
    kind = "python"
    function = "effects:second"
    after = ["first"]
    [[actions]]
    name = "first"
    kind = "python"
    function = "effects:first"
    """
    async with open_house(tmp_path, toml) as house:

        async def slow_start(work: Work) -> Done:
            if work.definition.name == "first" and work.attempt == 1:
                raise ActionFailed("not yet")
            return Done(detail={})

        house.effect = slow_start
        task_id = await house.submit()
        await house.advance(60)
        assert house.effects_of(task_id) == ["first", "first", "second"]


async def test_refused_links_are_tried_and_asked_for_anew_until_links_die(tmp_path: Path) -> None:
    toml = '[[actions]]\nname = "save"\nkind = "download"\n'
    async with open_house(tmp_path, toml) as house:

        async def expired(_: Work) -> Done:
            raise ActionFailed("HTTP 404", expired=True)

        house.effect = expired
        task_id = await house.submit()
        await house.advance(3600)
        action = (await house.task(task_id)).actions[0]
        assert (action.state, action.reason) == ("owed", "HTTP 404")
        assert house.simulator.count("query") == 1 + len(action.tries)
        assert await house.alerts() == ["links_expiring"]
        await house.advance(25 * 3600)
        action = (await house.task(task_id)).actions[0]
        assert (action.state, action.reason) == ("dead", "expired: HTTP 404")
        assert await house.alerts() == ["action_dead"]
        tries = len(action.tries)
        await house.api.post(f"/actions/{action.id}/retry")
        await house.advance(600)
        action = (await house.task(task_id)).actions[0]
        assert (action.state, len(action.tries)) == ("dead", tries + 2), "asked once more when somebody wants it"


@pytest.mark.parametrize("away", [100, 7200, 80_000])
async def test_a_link_that_is_refused_for_a_while_costs_no_result(tmp_path: Path, away: float) -> None:
    async with open_house(tmp_path, '[[actions]]\nname = "save"\nkind = "download"\n') as house:

        async def away_for_a_while(_: Work) -> Done:
            if house.clock.now < START + 40 + away:
                raise ActionFailed("HTTP 403", expired=True)
            return Done(detail={})

        house.effect = away_for_a_while
        task_id = await house.submit()
        await house.advance(40 + away + 3600 * 1.3)
        assert (await house.task(task_id)).actions[0].state == "done"
        assert await house.alerts() == []


async def test_a_callback_at_a_fresh_url_is_told_apart_from_the_first(house: House) -> None:
    task_id = await house.submit()
    await house.advance(10)
    path = house.callback_path(task_id, Purpose.RESEND)
    provider_task_id = (await house.task(task_id)).provider_task_id or ""
    first = await house.http.post(path, content=callback_of(provider_task_id))
    second = await house.http.post(path, content=callback_of(provider_task_id))
    assert first.json() == {"received": True, "duplicate": False}
    assert second.json() == {"received": True, "duplicate": True}
    assert [delivery.purpose for delivery in (await house.task(task_id)).deliveries] == ["submit", "resend"]


async def test_no_body_that_was_kept_breaks_what_follows(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_CONFIRM": "false"}) as house:
        tasks = []
        for body in (body for _, body, status in BODIES if status == 200):
            tasks.append(await house.submit())
            await house.service.submit_next()
            await house.http.post(house.callback_path(tasks[-1]), content=body)
        await house.advance(60)
        states = {(await house.task(task)).state for task in tasks}
        assert states <= {"succeeded", "failed"}


async def test_results_whose_links_die_soon_are_an_alert_until_they_are_saved(tmp_path: Path) -> None:
    async def full(_: Work) -> Done:
        raise ActionFailed("the disk is full")

    async with open_house(tmp_path, '[[actions]]\nname = "keep"\nkind = "download"\n') as house:
        saving, house.effect = house.effect, full
        await house.submit()
        await house.advance(19 * 3600)
        assert await house.alerts() == []
        await house.advance(2 * 3600)
        assert await house.alerts() == ["links_expiring"]
        house.effect = saving
        await house.advance(3600 * 1.5)
        assert await house.alerts() == []
