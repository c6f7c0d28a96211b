"""Reconciling: what should have arrived is known, looked for, explained, and asked for once more."""

from itertools import pairwise
from pathlib import Path

import pytest
from house import House, open_house

from receiver.simulator import Fault

pytestmark = pytest.mark.story


async def test_after_ten_minutes_without_a_server_every_task_ends_right_and_every_miss_has_a_cause(
    house: House,
) -> None:
    failing = await house.submit(Fault.FAILED)
    tasks = [await house.submit() for _ in range(10)] + [failing]
    await house.settle()
    house.door_open = False
    await house.advance(600)
    assert house.simulator.callbacks
    house.door_open = True
    await house.advance(120)
    ended = [await house.task(task) for task in tasks]
    assert [task.state for task in ended] == ["succeeded"] * 10 + ["failed"]
    assert {task.callback.cause for task in ended} == {"unreachable"}
    assert {task.callback.miss for task in ended} == {"late"}
    assert house.simulator.count("resend") == len(tasks)
    assert all([check.kind for check in task.checks].count("resend") == 1 for task in ended)
    assert all(
        [check.summary for check in task.checks if check.kind == "detail" and "Connection refused" in check.summary]
        for task in ended
    )
    totals = await house.totals()
    assert totals["callbacks_missed"] == totals["callbacks_missed.unreachable"] == len(tasks)
    assert totals["callbacks_received"] == totals["callbacks_late"] == len(tasks)
    assert all(house.effects_of(task) == ["on-success"] for task in tasks[:10])
    assert "callback_missed" not in await house.alerts()


async def test_resends_leave_one_by_one_a_second_apart(house: House) -> None:
    for _ in range(6):
        await house.submit(Fault.LOST_CALLBACK)
    await house.advance(120)
    times = [request.at for request in house.simulator.requests if request.route == "resend"]
    assert len(times) == 6
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(times))


async def test_a_callback_that_is_a_minute_late_raises_no_alarm(house: House) -> None:
    task_id = await house.submit(Fault.LATE, delay=60.0)
    await house.advance(900)
    task = await house.task(task_id)
    assert (task.state, task.callback.miss) == ("succeeded", None)
    assert task.callback.delivered_at is not None
    assert "callbacks_missed" not in await house.totals()
    assert await house.alerts() == []
    assert house.simulator.count("resend") == 0


async def test_a_lost_callback_is_missed_explained_resent_and_closed_as_late(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.advance(60)
    task = await house.task(task_id)
    assert task.event is not None
    assert task.event.source == "query"
    assert (task.callback.miss, task.callback.cause) == ("late", "unreachable")
    assert [delivery.purpose for delivery in task.deliveries] == ["resend"]
    assert house.effects_of(task_id) == ["on-success"]


async def test_a_callback_that_was_never_sent_is_missed_after_five_minutes(house: House) -> None:
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.advance(300)
    assert (await house.task(task_id)).callback.miss == "watching"
    assert await house.alerts() == []
    await house.advance(60)
    task = await house.task(task_id)
    assert task.callback.cause == "never_sent"
    assert (await house.totals())["callbacks_missed.never_sent"] == 1


async def test_a_callback_that_our_own_door_refused_says_so(house: House) -> None:
    task_id = await house.submit(Fault.WRONG_TOKEN)
    await house.advance(400)
    task = await house.task(task_id)
    assert (task.callback.miss, task.callback.cause) == ("late", "refused_by_us")


async def test_a_miss_stays_an_open_alert_while_the_door_stays_shut(tmp_path: Path) -> None:
    async with open_house(tmp_path, '[reconcile]\nresend = "never"\n') as house:
        task_id = await house.submit(Fault.LOST_CALLBACK)
        await house.advance(7200)
        task = await house.task(task_id)
        assert (task.callback.miss, task.callback.resent_at) == ("missed", None)
        assert "callback_missed" in await house.alerts()
        assert house.simulator.count("resend") == 0


async def test_only_what_the_query_did_not_know_is_resent_when_told_so(tmp_path: Path) -> None:
    async with open_house(tmp_path, '[reconcile]\nresend = "unknown"\n') as house:
        known = await house.submit(Fault.LOST_CALLBACK)
        unknown = await house.submit(Fault.LOST_CALLBACK, Fault.FORGOTTEN)
        await house.advance(1200)
        assert (await house.task(known)).callback.resent_at is None
        task = await house.task(unknown)
        assert task.event is not None
        assert task.event.source == "detail"
        assert task.callback.miss == "late"


async def test_a_resend_that_cannot_be_asked_for_is_tried_again(house: House) -> None:
    house.simulator.outage("resend", "503", times=2)
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.advance(90)
    assert (await house.task(task_id)).callback.miss == "missed"
    await house.advance(120)
    task = await house.task(task_id)
    assert task.callback.miss == "late"
    assert [(check.kind, check.ok) for check in task.checks if check.kind == "resend"] == [
        ("resend", False),
        ("resend", False),
        ("resend", True),
    ]


async def test_a_task_the_query_forgot_ends_as_the_webhook_detail_tells(house: House) -> None:
    task_id = await house.submit(Fault.FORGOTTEN, Fault.NEVER_SENT)
    await house.advance(600)
    task = await house.task(task_id)
    assert task.event is not None
    assert (task.state, task.event.source) == ("succeeded", "detail")
    assert house.effects_of(task_id) == ["on-success"]


async def test_success_without_results_is_believed_after_five_minutes_of_questions_and_the_detail(house: House) -> None:
    task_id = await house.submit(Fault.NO_RESULTS)
    await house.advance(250)
    assert (await house.task(task_id)).state == "submitted"
    await house.advance(120)
    task = await house.task(task_id)
    assert task.event is not None
    assert (task.state, task.event.no_results) == ("succeeded", True)
    asked = [request.at for request in house.simulator.requests if request.route == "query"]
    assert [at - asked[0] for at in asked] == pytest.approx([0, 2, 7, 22, 52, 112, 232, 300], abs=0.1)
    assert [check.kind for check in task.checks if check.kind != "query"] == ["submit", "detail", "detail"]
    assert task.checks[-1].kind == "detail"


async def test_results_that_come_late_are_kept(house: House) -> None:
    task_id = await house.submit(Fault.NO_RESULTS, results_after_queries=1)
    await house.advance(400)
    task = await house.task(task_id)
    assert task.event is not None
    assert (task.state, task.event.no_results) == ("succeeded", False)
    assert task.results


async def test_a_task_of_which_the_provider_knows_nothing_is_lost_when_patience_ends(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[reconcile]\npatience = 7200\n") as house:
        task_id = await house.submit(Fault.FORGOTTEN, Fault.NEVER_SENT, detail_knows=False)
        await house.advance(7150)
        assert (await house.task(task_id)).state == "submitted"
        await house.advance(900)  # RunningHub must have said so for all that time, and it was asked a little later
        assert (await house.task(task_id)).state == "lost"
        assert house.effects == []


async def test_a_task_that_runs_longer_than_patience_is_not_lost(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[reconcile]\npatience = 3600\n", task_seconds=10_000.0) as house:
        task_id = await house.submit()
        await house.advance(9_000)
        assert (await house.task(task_id)).state == "submitted"
        await house.advance(1_500)
        assert (await house.task(task_id)).state == "succeeded"


async def test_a_provider_that_cannot_be_asked_is_an_alert_that_closes_by_itself(house: House) -> None:
    house.simulator.outage("query", "refused")
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.advance(100)
    assert "provider_unreachable" in await house.alerts()
    house.simulator.heal()
    await house.advance(600)
    assert (await house.task(task_id)).state == "succeeded"
    assert "provider_unreachable" not in await house.alerts()


@pytest.mark.parametrize("kind", ["429", "500", "junk", "slow", "refused"])
async def test_a_read_that_fails_is_tried_again_within_its_check(house: House, kind: str) -> None:
    house.simulator.outage("query", kind, times=2)
    task_id = await house.submit()
    await house.advance(10)
    task = await house.task(task_id)
    assert task.state == "succeeded"
    assert [(check.kind, check.ok) for check in task.checks] == [("submit", True), ("query", True)]


async def test_asking_by_hand_looks_at_once(house: House) -> None:
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.advance(6)
    answer = await house.api.post(f"/tasks/{task_id}/reconcile")
    assert answer.json()["state"] == "succeeded"
    assert answer.json()["event"]["source"] == "query"


async def test_a_resend_by_hand_arrives_at_a_fresh_url(house: House) -> None:
    task_id = await house.submit()
    await house.advance(10)
    answer = await house.api.post(f"/tasks/{task_id}/resend")
    assert answer.status_code == 200
    await house.advance(5)
    assert [delivery.purpose for delivery in (await house.task(task_id)).deliveries] == ["submit", "resend"]


async def test_what_cannot_be_resent_is_refused_with_the_reason(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RECEIVER_PUBLIC_URL": ""}) as house:
        task_id = await house.submit()
        await house.settle()
        answer = await house.api.post(f"/tasks/{task_id}/resend")
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_public_url")


async def test_a_task_that_breaks_its_examiner_does_not_spin(house: House) -> None:
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.settle()
    first = await house.store.take_due_task(house.clock.now + 40, 60.0)
    assert first is not None
    assert first.id == task_id
    assert await house.store.take_due_task(house.clock.now + 40, 60.0) is None
    await house.advance(200)
    assert (await house.task(task_id)).state == "succeeded"


async def test_urls_signed_under_the_old_secret_still_work_after_a_rotation(house: House) -> None:
    task_id = await house.submit(Fault.LATE, delay=20.0)
    await house.settle()
    old = house.callback_path(task_id)
    await house.reopen(RECEIVER_SECRETS="second-signing-secret-of-the-tests,first-signing-secret-of-the-tests")
    assert house.callback_path(task_id) != old
    await house.advance(60)
    task = await house.task(task_id)
    assert task.callback.delivered_at is not None
    await house.reopen(RECEIVER_SECRETS="second-signing-secret-of-the-tests")
    assert (await house.http.post(old, content=b"{}")).status_code == 404
