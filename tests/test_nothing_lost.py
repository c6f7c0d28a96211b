"""What was paid for is not lost: outages longer than a patience, answers that drip, full disks, clocks that step."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import httpx
import pytest
from house import API_KEY, SECRET, TLS, Clock, House, open_house
from ledgers import end_tasks
from test_stories import callback_of
from uuid_utils import uuid7

from receiver.actions import ActionFailed, Done, Work
from receiver.model import rules
from receiver.model.entries import NewTask
from receiver.model.errors import StoreUnavailable
from receiver.model.links import Links
from receiver.model.records import Filter, Kind, Task
from receiver.model.redaction import Redactor
from receiver.orders.exchange import Asker
from receiver.runninghub.client import RunningHub
from receiver.runninghub.errors import ProviderError
from receiver.server.service import Service
from receiver.server.settings import Settings, load_settings
from receiver.simulator import Fault
from receiver.store.sqlite.store import SqliteStore
from receiver.submit import submit_next

pytestmark = pytest.mark.story

NOW = 1_790_000_000.0
TAKEN = {"taskId": "2052287938007814145", "status": "RUNNING", "errorCode": "", "errorMessage": ""}
ONE = '[[actions]]\nname = "one"\nkind = "python"\nfunction = "effects:one"\n'
EAGER = f"{ONE}unconfirmed = true\n"


def provider(answer: Callable[[httpx.Request], httpx.Response], deadline: float | None = None) -> RunningHub:
    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), verify=TLS)
    return RunningHub(http, "https://www.runninghub.test", API_KEY, attempts=1, read_wait=0.0, deadline=deadline)


class Dripping(httpx.AsyncByteStream):
    """An answer that begins and does not end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b'{"taskId"'
        await asyncio.Event().wait()


# ---------------------------------------------------------------- exchanges with the provider


@pytest.mark.parametrize("ask", ["query", "webhook_detail", "cancel"])
async def test_an_answer_that_drips_is_no_answer_after_its_deadline(ask: str) -> None:
    hub = provider(lambda _: httpx.Response(200, stream=Dripping()), deadline=0.05)
    with pytest.raises(ProviderError) as refused:
        await getattr(hub, ask)("2052287938007814145")
    assert refused.value.code == "unanswered"


async def test_an_answer_about_another_task_is_no_answer() -> None:
    hub = provider(lambda _: httpx.Response(200, json={**TAKEN, "status": "SUCCESS"}))
    with pytest.raises(ProviderError, match="another task"):
        await hub.query("2052287938007814146")
    assert (await hub.query("2052287938007814145")).content.task_id == "2052287938007814145"


async def test_a_callback_of_another_task_is_no_answer_either() -> None:
    detail = {"id": "1", "taskId": "2052287938007814145", "webhookUrl": "http://x.test/y", "callbackStatus": "SUCCESS"}
    hub = provider(lambda _: httpx.Response(200, json={"code": 0, "msg": "success", "data": detail}))
    with pytest.raises(ProviderError, match="another task"):
        await hub.webhook_detail("2052287938007814146")
    assert (await hub.webhook_detail("2052287938007814145")).content is not None


ODD = {
    "a lone surrogate": rb'"\ud800"',
    "no number": b"NaN",
    "a number without end": b"1e400",
    "more digits than anybody reads": b"9" * 5000,
    "half a character": b'"\xe4\xbd"',
    "a raw line end": b'"a\nb"',
    "nesting": b"[" * 5000 + b"]" * 5000,
    "many levels within limits of nobody": b'{"a":' * 200 + b"1" + b"}" * 200,
}


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize(("before", "after"), [(b"", b""), (b"\xef\xbb\xbf", b"\x00"), (b" \n", b"\x00\x00")])
async def test_a_success_is_read_whatever_stands_in_a_field_that_nobody_needs(
    odd: str, before: bytes, after: bytes
) -> None:
    said = b'{"taskId":"2052287938007814145","status":"SUCCESS","odd":%s,"results":[{"url":"https://x.test/a.png"}]}'
    hub = provider(lambda _: httpx.Response(200, content=before + said % ODD[odd] + after))
    report = (await hub.query("2052287938007814145")).content
    assert (report.end, [each.url for each in report.results]) == ("succeeded", ["https://x.test/a.png"])


async def test_a_kept_callback_is_read_as_leniently_as_the_answer_that_carries_it() -> None:
    kept = r'{"status":"SUCCESS","taskId":"2052287938007814145","odd":NaN,"results":[{"url":"https://x.test/a.png"}]}'
    detail = {"id": "7", "webhookUrl": "", "callbackStatus": "FAILED", "retryCount": 3, "eventData": kept}
    hub = provider(lambda _: httpx.Response(200, json={"code": 0, "msg": "success", "data": detail}))
    found = (await hub.webhook_detail("2052287938007814145")).content
    assert found is not None
    assert found.report is not None
    assert found.report.end == "succeeded"


async def test_what_is_no_json_at_all_is_no_answer() -> None:
    hub = provider(lambda _: httpx.Response(200, content=b"<html>" + b"[" * 100_000))
    with pytest.raises(ProviderError) as refused:
        await hub.query("2052287938007814145")
    assert refused.value.code == "unreadable"


FULL_QUEUE = [
    {"taskId": "", "errorCode": "", "errorMessage": "TASK_QUEUE_MAXED"},
    {"taskId": None, "errorCode": "TASK_QUEUE_MAXED", "errorMessage": ""},
    {"code": "TASK_QUEUE_MAXED", "msg": ""},
    {"taskId": "", "errorCode": "", "msg": "error: TASK_QUEUE_MAXED, please wait"},
    {"taskId": "", "errorCode": "", "errorMessage": "the task queue is full"},
    {"taskId": "", "errorCode": "", "errorMessage": "任务队列已满"},
]


@pytest.mark.parametrize("said", FULL_QUEUE, ids=str)
async def test_a_full_queue_is_known_by_its_name_and_by_its_words(tmp_path: Path, said: dict[str, object]) -> None:
    store, line, task = await submitted(tmp_path, provider(lambda _: httpx.Response(200, json=said)))
    assert (line["outcome"], task.state) == ("later", "queued")
    await store.close()


async def test_submitting_again_twice_under_one_key_is_paid_for_once(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    task_id = await house.submit()
    await house.settle()
    key = {"Idempotency-Key": "again-7"}
    answers = [await house.api.post(f"/tasks/{task_id}/submit-again", headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert len({answer.json()["id"] for answer in answers}) == 1
    await house.settle()
    assert house.simulator.count("submit") == 2


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_site_that_has_moved_takes_nothing_and_says_where_it_is(tmp_path: Path, status: int) -> None:
    there = {"location": "https://www.runninghub.example:444/openapi/v2/x?secret=1"}
    store, line, task = await submitted(tmp_path, provider(lambda _: httpx.Response(status, headers=there)))
    assert (line["outcome"], task.state) == ("later", "queued")
    (alert,) = (await store.alerts(Filter())).items
    assert alert.kind == "provider_moved"
    assert alert.message.endswith("set runninghub.base_url to https://www.runninghub.example:444")
    await store.close()


async def submitted(
    directory: Path, hub: RunningHub, kind: type[SqliteStore] = SqliteStore
) -> tuple[SqliteStore, dict[str, object], Task]:
    """One order, sent by hand; the store is open afterwards."""
    store = kind(directory / "receiver.db")
    await store.open()
    order = NewTask(id=str(uuid7()), kind=Kind.MODEL, target="a/b", input={}, labels={}, digest=b"")
    await store.add_task(order, NOW)
    asker = Asker(hub, store, Redactor([]), lambda: NOW)
    links = Links((SECRET,), "http://receiver.test")
    line = await submit_next(store, asker, links, (), Settings().policy, lambda: NOW)
    task = await store.task(order.id)
    assert line is not None
    assert task is not None
    return store, dict(line), task


class Full(SqliteStore):
    """A disk that is full when the answer to a submission comes: the first writes after it are refused."""

    refusals = 2

    def refuse(self) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StoreUnavailable("disk_full", "nothing can be written: disk full")

    async def mark_submitted(self, task: Task, provider_task_id: str, status: str, check_at: float, now: float) -> bool:
        self.refuse()
        return await super().mark_submitted(task, provider_task_id, status, check_at, now)

    async def put_back(self, task: Task, pause_until: float, why: str = "") -> None:
        self.refuse()
        await super().put_back(task, pause_until, why)

    async def add_check(self, *_: object) -> None:
        raise StoreUnavailable("disk_full", "nothing can be written: disk full")


async def test_the_id_of_a_task_that_was_taken_is_written_down_when_the_disk_has_room_again(tmp_path: Path) -> None:
    store, line, task = await submitted(tmp_path, provider(lambda _: httpx.Response(200, json=TAKEN)), Full)
    assert (line["outcome"], task.state, task.provider_task_id) == ("submitted", "submitted", TAKEN["taskId"])
    await store.close()


async def test_a_queue_that_is_full_while_the_disk_is_leaves_no_doubt(tmp_path: Path) -> None:
    full = {"taskId": "", "errorCode": "421", "errorMessage": "TASK_QUEUE_MAXED"}
    store, line, task = await submitted(tmp_path, provider(lambda _: httpx.Response(200, json=full)), Full)
    assert (line["outcome"], task.state) == ("later", "queued")
    await store.close()


class Closed(Full):
    async def mark_submitted(self, *_: object) -> bool:
        raise StoreUnavailable("closing", "the store is being closed")


async def test_a_server_that_stops_meanwhile_says_which_task_it_was(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=f"was taken as {TAKEN['taskId']}"):
        await submitted(tmp_path, provider(lambda _: httpx.Response(200, json=TAKEN)), Closed)


class Refusing(SqliteStore):
    """Says that its storage has refused so many writes."""

    said: Mapping[str, int] = {}

    def refused(self) -> Mapping[str, int]:
        return self.said


async def test_writes_that_were_refused_are_an_alert_when_there_is_room_for_one(tmp_path: Path) -> None:
    clock = Clock(NOW)
    service = Service(load_settings({}, tmp_path), clock=clock, tls=TLS)
    store = service.store = Refusing(tmp_path / "receiver.db")
    await service.start(loops=False)
    await service.housekeep()
    store.said = {"disk_full": 7}
    for _ in range(2):
        await service.housekeep()
    (alert,) = (await store.alerts(Filter(state=("open",)))).items
    assert (alert.kind, alert.message, alert.count) == ("store_refused", "7 writes were refused: disk full", 1)
    clock.now += rules.REFUSALS_TOLD + 1
    await service.housekeep()
    assert (await store.alerts(Filter(state=("open",)))).items == []
    await service.close()


# ---------------------------------------------------------------- doubt


async def test_a_submission_that_a_stop_interrupts_is_in_doubt_with_a_check_an_alert_and_a_next_look(
    house: House,
) -> None:
    task_id = await house.submit()
    assert await house.store.take_queued_task(house.clock(), 9, callback=True, node=house.service.node) is not None
    await house.reopen()
    task = await house.task(task_id)
    assert (task.state, await house.alerts()) == ("in_doubt", ["task_in_doubt"])
    assert [(each.kind, each.ok) for each in task.checks] == [("submit", False)]
    stored = await house.store.task(task_id)
    assert stored is not None
    assert stored.check_at is not None
    assert stored.check_at <= house.clock() + rules.DOUBT_LOOK


async def test_a_task_that_was_given_the_id_of_another_is_looked_at_and_lost_after_patience(house: House) -> None:
    first, second = await house.submit(), await house.submit()
    taken = [await house.store.take_queued_task(house.clock(), 9, callback=True) for _ in range(2)]
    for task in taken:
        assert task is not None
        await house.store.mark_submitted(task, "2052287938007814145", "RUNNING", house.clock() + 1e6, house.clock())
    assert ((await house.task(first)).state, (await house.task(second)).state) == ("submitted", "in_doubt")
    assert await house.alerts() == ["id_taken"]
    await house.advance(house.service.settings.patience + 1200)
    assert (await house.task(second)).state == "lost"


# ---------------------------------------------------------------- patience


async def test_an_outage_longer_than_the_patience_loses_nothing(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    house.door_open = False
    await house.advance(90_000)
    house.door_open = True
    house.simulator.outage("query", "503", times=3)
    house.simulator.outage("detail", "503", times=3)
    await house.settle()
    assert (await house.task(task_id)).state == "submitted"
    await house.advance(1200)
    assert (await house.task(task_id)).state == "succeeded"


async def test_time_in_which_runninghub_was_not_asked_is_no_patience(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    house.door_open = False
    await house.advance(90_000)
    house.door_open = True
    house.simulator.outage("query", "code", code="1004")
    house.simulator.outage("detail", "code", code="1")
    await house.advance(7200)
    assert (await house.task(task_id)).state == "submitted"
    house.simulator.heal()
    await house.advance(1200)
    assert (await house.task(task_id)).state == "succeeded"


async def test_a_provider_that_is_down_for_longer_than_the_patience_loses_nothing(house: House) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    house.simulator.outage("query", "503")
    house.simulator.outage("detail", "503")
    await house.advance(100_000)
    assert (await house.task(task_id)).state == "submitted"
    house.simulator.heal()
    await house.advance(1200)
    assert (await house.task(task_id)).state == "succeeded"


async def test_a_doubt_that_a_callback_can_answer_outlasts_an_outage_longer_than_the_patience(house: House) -> None:
    for route in ("submit", "query", "detail"):
        house.simulator.outage(route, "slow")
    task_id = await house.submit(Fault.FALSE_CLAIM)
    await house.advance(100_000)
    assert (await house.task(task_id)).state == "succeeded", "all that is known is what the callback claims"
    assert house.effects_of(task_id) == []
    house.simulator.heal()
    await house.advance(1200)
    assert (await house.task(task_id)).state == "failed"
    assert house.effects_of(task_id) == ["on-failure"]


async def test_a_doubt_whose_only_clue_runninghub_does_not_know_is_lost_after_the_patience(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    task_id = await house.submit()
    await house.settle()
    await house.http.post(house.callback_path(task_id), content=callback_of("2052287938007814145", "RUNNING"))
    await house.advance(house.service.settings.patience - 3600)
    assert (await house.task(task_id)).state == "in_doubt"
    await house.advance(7200)
    assert (await house.task(task_id)).state == "lost"
    asked = house.simulator.count("detail")
    await house.advance(86_400)
    assert house.simulator.count("detail") == asked


async def test_an_end_that_was_only_claimed_is_asked_about_when_runninghub_did_not_know_of_it_for_long(
    house: House,
) -> None:
    house.simulator.outage("detail", "code", code="1")
    task_id = await house.submit(Fault.ANSWER_LOST, Fault.FALSE_CLAIM)
    await house.advance(house.service.settings.patience + 3600)
    assert ((await house.task(task_id)).state, house.effects) == ("succeeded", [])
    assert {"task_in_doubt", "task_lost"} <= set(await house.alerts())
    house.simulator.heal()
    await house.advance(rules.LOST_REST + 120)
    assert (await house.task(task_id)).state == "failed"
    assert await house.alerts() == ["event_contradicted"]
    assert house.effects_of(task_id) == ["on-failure"]


async def test_a_lost_task_is_still_asked_about_and_found(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[reconcile]\npatience = 3600\n") as house:
        task_id = await house.submit(Fault.FORGOTTEN, Fault.NEVER_SENT, detail_knows=False)
        await house.advance(8000)
        assert (await house.task(task_id)).state == "lost"
        provider_id = (await house.task(task_id)).provider_task_id
        asked = house.simulator.count("query")
        await house.advance(rules.LOST_REST + 60)
        assert house.simulator.count("query") > asked
        await house.http.post(house.callback_path(task_id), content=callback_of(provider_id or ""))
        await house.advance(rules.LOST_KEPT + 2 * rules.LOST_REST)
        asked = house.simulator.count("query")
        await house.advance(86_400)
        assert house.simulator.count("query") == asked


async def test_a_task_that_runs_for_ever_frees_its_place_and_is_asked_about_rarely(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "1"}, task_seconds=1e9) as house:
        first, second = await house.submit(), await house.submit()
        await house.advance(house.service.settings.overdue - 700)
        assert (await house.task(second)).state == "queued"
        await house.advance(1400)
        assert ((await house.task(first)).state, (await house.task(second)).state) == ("submitted", "submitted")
        assert "task_overdue" in await house.alerts()
        asked = house.simulator.count("query")
        await house.advance(4 * 3600)
        assert house.simulator.count("query") - asked < 4 * 6 + 8
        for provider_id in list(house.simulator.tasks):
            house.simulator.finish(provider_id)
        await house.advance(4000)
        assert (await house.task(first)).state == "succeeded"
        assert await house.alerts() == []


async def test_times_that_a_wrong_clock_left_behind_come_back(house: House) -> None:
    house.simulator.outage("submit", "429", times=1)
    house.clock.now += 10 * 86_400
    task_id = await house.submit()
    await house.settle()
    assert (await house.task(task_id)).state == "queued"
    house.clock.now -= 10 * 86_400
    await house.advance(60)
    assert (await house.task(task_id)).state == "succeeded"


@pytest.mark.parametrize("hours", [2, 8, 240])
async def test_what_is_to_be_asked_about_at_a_wrong_time_is_asked_about_now(house: House, hours: float) -> None:
    house.skew = hours * 3600
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    assert (await house.task(task_id)).state == "submitted"
    house.skew = 0.0
    await house.advance(60)
    assert (await house.task(task_id)).state == "succeeded"


async def test_a_doubt_of_the_future_holds_no_place_for_days(tmp_path: Path) -> None:
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "1"}) as house:
        house.simulator.outage("submit", "500", times=1)
        await house.submit()
        house.clock.now += 3 * 86_400
        await house.settle()
        house.clock.now -= 3 * 86_400
        second = await house.submit()
        await house.advance(rules.IN_DOUBT_COUNTS + 60)
        assert (await house.task(second)).state == "succeeded"


@pytest.mark.parametrize("hours", [2, 8, 240])
async def test_what_failed_while_the_clock_was_wrong_is_tried_again_in_time(tmp_path: Path, hours: float) -> None:
    async def fails(_: Work) -> Done:
        raise ActionFailed("not now")

    async with open_house(tmp_path, ONE) as house:
        works, house.effect = house.effect, fails
        (task,) = await end_tasks(house.store, 1, house.service.definitions, house.clock())
        house.skew = hours * 3600
        await house.settle()
        house.skew, house.effect = 0.0, works
        assert house.effects_of(task.id) == ["one"]
        await house.advance(60)
        assert house.effects_of(task.id) == ["one", "one"]


@pytest.mark.parametrize("hours", [2, 8, 240])
async def test_what_was_retried_while_the_clock_was_wrong_comes_back_with_it(tmp_path: Path, hours: float) -> None:
    async with open_house(tmp_path, ONE) as house:
        (task,) = await end_tasks(house.store, 1, house.service.definitions, house.clock())
        (action,) = (await house.task(task.id)).actions
        assert await house.store.skip_action(action.id, "by hand", house.clock())
        house.clock.now += hours * 3600
        assert (await house.api.post(f"/actions/{action.id}/retry")).status_code == 200
        house.clock.now -= hours * 3600
        await house.advance(60)
        assert house.effects_of(task.id) == ["one"]


async def test_a_server_that_is_stopping_is_not_ready(house: House) -> None:
    assert house.service.problems() == []
    await house.service.hold()
    assert house.service.problems() == ["stopping"]


# ---------------------------------------------------------------- what is owed


async def test_an_action_that_ran_when_the_server_died_waits_for_its_definition_that_was_deleted(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path, ONE) as house:
        (task,) = await end_tasks(house.store, 1, house.service.definitions, house.clock())
        assert await house.store.claim_action("one", house.clock(), 60) is not None
        (tmp_path / "receiver.toml").write_text(ONE.replace('"one"', '"other"'))
        await house.reopen()
        await house.advance(120)
        assert [each.state for each in (await house.task(task.id)).actions] == ["owed"]
        assert await house.alerts() == ["definition_missing"]
        (tmp_path / "receiver.toml").write_text(ONE)
        await house.reopen()
        await house.advance(10)
        assert house.effects_of(task.id) == ["one"]


async def test_what_is_held_stays_held_whatever_hand_touches_it(tmp_path: Path) -> None:
    async with open_house(tmp_path, ONE) as house:
        task_id = await unconfirmed(house)
        (action,) = (await house.task(task_id)).actions
        assert (await house.api.post(f"/actions/{action.id}/skip")).status_code == 200
        assert (await house.api.post(f"/actions/{action.id}/retry")).status_code == 200
        await house.advance(30)
        assert house.effects == []
        house.simulator.heal()
        await house.advance(600)
        assert house.effects_of(task_id) == ["one"]


async def unconfirmed(house: House, fault: Fault | None = None) -> str:
    """A task whose callback is believed without a confirmation, for RunningHub cannot be asked."""
    task_id = await house.submit(*([fault] if fault else []))
    await house.settle()
    house.simulator.outage("query", "503")
    house.simulator.outage("detail", "503")
    await house.advance(900)
    event = (await house.task(task_id)).event
    assert event is not None
    assert not event.confirmed
    return task_id


async def test_a_doubt_that_a_stranger_ends_is_told_until_runninghub_has_confirmed_the_end(house: House) -> None:
    task_id = await house.submit(Fault.ANSWER_LOST, Fault.LOST_CALLBACK)
    await house.settle()
    house.simulator.outage("detail", "503")
    (provider_id,) = house.simulator.tasks
    await house.http.post(house.callback_path(task_id), content=callback_of(provider_id))
    await house.advance(900)
    event = (await house.task(task_id)).event
    assert event is not None
    assert not event.confirmed
    assert "task_in_doubt" in await house.alerts()
    house.simulator.heal()
    await house.advance(1200)
    assert (await house.task(task_id)).event is not None
    assert "task_in_doubt" not in await house.alerts()


async def test_what_was_done_for_a_forged_claim_is_owed_again_for_the_truth(tmp_path: Path) -> None:
    async with open_house(tmp_path, EAGER) as house:
        task_id = await house.submit(Fault.LOST_CALLBACK)
        await house.settle()
        house.simulator.outage("query", "503")
        house.simulator.outage("detail", "503")
        provider_id = (await house.task(task_id)).provider_task_id or ""
        await house.http.post(house.callback_path(task_id), content=callback_of(provider_id))
        await house.advance(900)
        assert house.effects_of(task_id) == ["one"]
        assert house.effects[0].results[0].url == "http://evil.test/x.mp4"
        house.simulator.heal()
        await house.advance(600)
        assert house.effects_of(task_id) == ["one", "one"]
        assert house.effects[1].results[0].url != "http://evil.test/x.mp4"
        assert [each.generation for each in (await house.task(task_id)).actions] == [1, 2]


async def test_what_was_done_for_the_truth_is_not_done_again_when_it_is_confirmed(tmp_path: Path) -> None:
    async with open_house(tmp_path, EAGER) as house:
        task_id = await unconfirmed(house)
        house.simulator.heal()
        await house.advance(600)
        assert house.effects_of(task_id) == ["one"]


async def test_an_end_that_was_told_falsely_is_told_again_as_it_is(tmp_path: Path) -> None:
    async with open_house(tmp_path, f'{EAGER}on = ["succeeded", "failed"]\n') as house:
        task_id = await unconfirmed(house, Fault.FALSE_CLAIM)
        assert house.effects[0].body["type"] == "task.succeeded"
        house.simulator.heal()
        await house.advance(600)
        assert [work.body["type"] for work in house.effects] == ["task.succeeded", "task.failed"]
        assert len({work.key for work in house.effects}) == 2
        assert (await house.task(task_id)).state == "failed"


# ---------------------------------------------------------------- what is kept


async def test_a_genuine_callback_finds_a_place_behind_any_number_of_others(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.settle()
    path = house.callback_path(task_id)
    for number in range(60):
        assert (await house.http.post(path, content=b"junk %d" % number)).status_code == 202
    assert (await house.http.post(path, content=callback_of("2052287938007814145"))).status_code == 200
    task = await house.store.task(task_id)
    assert task is not None
    (saying,) = await house.store.sayings(task)
    assert saying.provider_task_id == "2052287938007814145"
    assert len((await house.task(task_id)).deliveries) == rules.DELIVERY_BODIES


async def test_what_finds_no_place_is_not_acknowledged(house: House) -> None:
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.settle()
    path = house.callback_path(task_id)
    provider_id = (await house.task(task_id)).provider_task_id or ""
    for number in range(rules.DELIVERY_BODIES):
        assert (await house.http.post(path, content=callback_of(provider_id, note=number))).status_code == 200
    answer = await house.http.post(path, content=b"junk")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "too_many_bodies")
    assert answer.headers["retry-after"]
    assert (await house.http.post(path, content=callback_of(provider_id, note=7))).json()["duplicate"]
