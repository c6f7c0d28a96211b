"""Nothing stands still: sleeping laptops, sites that change, bad events, shut doors, programs left behind, bad rows."""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from house import API_KEY, SECRET, TLS, House, open_house
from ledgers import end_tasks
from servers import action_states, prepared, request, rows, running, success, until
from test_breaker import TOML as TWO
from test_breaker import definition
from test_stories import callback_of
from uuid_utils import uuid7

from receiver.actions import ActionFailed, Done, Work
from receiver.actions.child import Child, end_left_behind, name_of
from receiver.cli.check import examine
from receiver.exchange import Asker
from receiver.housekeep import housekeep
from receiver.model import sentences
from receiver.model.definitions import FailureClass
from receiver.model.entries import NewCheck, NewTask
from receiver.model.links import Links
from receiver.model.records import CheckKind, Filter, Kind
from receiver.model.redaction import Redactor
from receiver.runninghub.client import RunningHub
from receiver.server.settings import Settings, load_settings
from receiver.simulator import Fault
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.store import SqliteStore
from receiver.submit import submit_next

NOW = 1_790_000_000.0
PROVIDER_ID = "2052287938007814145"
ELSEWHERE = "http://other.test"


async def an_order(store: SqliteStore) -> str:
    order = NewTask(id=str(uuid7()), kind=Kind.MODEL, target="a/b", input={}, labels={}, digest=b"")
    await store.add_task(order, NOW)
    return order.id


async def change(house: House, sql: str, *values: object) -> None:
    """What another version, or another program, has written."""

    def work(tx: Transaction) -> None:
        tx.change(sql, *values)

    await house.store.write(work)


# ---------------------------------------------------------------- submissions in hand


async def test_a_clock_that_steps_on_during_a_submission_brings_no_doubt(tmp_path: Path) -> None:
    store, sending = SqliteStore(tmp_path / "receiver.db"), set[str]()
    await store.open()
    task_id = await an_order(store)

    async def answer(_: httpx.Request) -> httpx.Response:
        await housekeep(store, (), Settings().policy, NOW + 11 * 60, sending=sending)
        return httpx.Response(200, json={"taskId": PROVIDER_ID, "status": "RUNNING", "errorCode": ""})

    hub = RunningHub(
        httpx.AsyncClient(transport=httpx.MockTransport(answer), verify=TLS), "https://www.runninghub.test", API_KEY
    )
    asker, links = Asker(hub, store, Redactor([]), lambda: NOW), Links((SECRET,), "http://receiver.test")
    await submit_next(store, asker, links, (), Settings().policy, lambda: NOW, in_hand=sending)
    task = await store.task(task_id)
    assert task is not None
    assert (task.state, task.provider_task_id) == ("submitted", PROVIDER_ID)
    assert (await store.alerts(Filter())).items == []
    assert sending == set()
    await store.close()


async def test_an_id_that_is_known_ends_the_doubt_however_late_it_comes(house: House) -> None:
    task_id = await house.submit()
    taken = await house.store.take_queued_task(house.clock(), 9, callback=True)
    assert taken is not None
    await house.store.mark_in_doubt(taken, "no answer", house.clock())
    assert await house.alerts() == ["task_in_doubt"]
    await house.store.mark_submitted(taken, PROVIDER_ID, "RUNNING", house.clock() + 30, house.clock())
    assert ((await house.task(task_id)).state, await house.alerts()) == ("submitted", [])


# ---------------------------------------------------------------- sites


def sites(asked: list[str], *, old_has_moved: bool = False) -> httpx.MockTransport:
    """Two sites of the provider, of which only the old one knows the task."""

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        if request.url.host == "old.test" and old_has_moved:
            return httpx.Response(308, headers={"location": f"https://new.test{request.url.path}"})
        if request.url.host == "new.test" and not old_has_moved:
            return httpx.Response(200, json={"errorCode": "1004", "errorMessage": "Task not found"})
        return httpx.Response(200, json={"taskId": PROVIDER_ID, "status": "RUNNING", "errorCode": ""})

    return httpx.MockTransport(answer)


@pytest.mark.parametrize(("moved", "asked"), [(False, ["old.test"]), (True, ["old.test", "new.test"])])
async def test_a_task_is_asked_about_at_the_site_it_was_sent_to_or_where_that_has_moved(
    tmp_path: Path, moved: bool, asked: Sequence[str]
) -> None:
    store, seen = SqliteStore(tmp_path / "receiver.db"), list[str]()
    await store.open()
    await an_order(store)
    task = await store.take_queued_task(NOW, 9, callback=False, site="https://old.test")
    assert task is not None
    http = httpx.AsyncClient(transport=sites(seen, old_has_moved=moved), verify=TLS)
    asker = Asker(RunningHub(http, "https://new.test", API_KEY, attempts=1), store, Redactor([]), lambda: NOW)
    assert (await asker.query(task, PROVIDER_ID)).status == "RUNNING"
    assert seen == asked
    assert (await store.alerts(Filter())).items == []
    await store.close()


@pytest.mark.story
async def test_open_tasks_of_another_site_are_told_by_an_alert_and_by_check_until_they_have_ended(
    tmp_path: Path,
) -> None:
    async with open_house(tmp_path) as house:
        task_id = await house.submit(Fault.LOST_CALLBACK)
        await house.settle()
        await house.reopen(RUNNINGHUB_BASE_URL=ELSEWHERE)
        await house.settle()
        assert await house.alerts() == ["tasks_elsewhere"]
        given = {"RUNNINGHUB_BASE_URL": ELSEWHERE, "RECEIVER_DATABASE": f"sqlite:///{tmp_path / 'receiver.db'}"}
        told = [each for each in examine(load_settings(given, tmp_path), tmp_path) if not each.ok]
        assert (
            "runninghub.base_url",
            "1 open tasks were sent to http://simulator.test, and are asked about there",
        ) in [(each.what, each.found) for each in told]
        await house.advance(90_000)
        assert ((await house.task(task_id)).state, await house.alerts()) == ("succeeded", [])


# ---------------------------------------------------------------- alerts


@pytest.mark.story
async def test_the_alerts_of_a_task_close_when_the_order_is_taken_once_more(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[reconcile]\npatience = 3600\n") as house:
        house.simulator.outage("submit", "500", times=2)
        first = await house.submit(Fault.NEVER_SENT)
        await house.settle()
        second = (await house.api.post(f"/tasks/{first}/submit-again")).json()["id"]
        await house.settle()
        assert (await house.alerts()).count("task_in_doubt") == 2
        third = (await house.api.post(f"/tasks/{second}/submit-again")).json()["id"]
        await house.advance(30)
        assert ((await house.task(third)).state, await house.alerts()) == ("succeeded", [])
        await house.advance(8000)
        assert ((await house.task(first)).state, await house.alerts()) == ("lost", [])


@pytest.mark.story
async def test_the_alert_of_a_lost_task_closes_when_it_is_found(tmp_path: Path) -> None:
    async with open_house(tmp_path, "[reconcile]\npatience = 3600\n", task_seconds=1e6) as house:
        task_id = await house.submit(Fault.FORGOTTEN, Fault.NEVER_SENT, detail_knows=False)
        await house.settle()
        task = await house.store.task(task_id)
        assert task is not None
        await house.store.give_up(task, house.clock())
        assert await house.alerts() == ["task_lost"]
        await house.store.note_running(task, "RUNNING", house.clock())
        assert await house.alerts() == []


@pytest.mark.story
async def test_an_alert_is_marked_as_seen_and_closed_by_hand_until_it_happens_again(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    await house.submit(Fault.NEVER_SENT)
    await house.settle()
    (alert,) = (await house.api.get("/alerts?kind=task_in_doubt")).json()["items"]
    path = f"/alerts/{alert['id']}"
    assert (await house.api.post(f"{path}/acknowledge")).json()["acknowledged_at"]
    assert "task_in_doubt" in await house.alerts()
    assert (await house.api.post(f"{path}/close")).json()["closed_at"]
    assert "task_in_doubt" not in await house.alerts()
    assert (await house.api.post("/alerts/999/close")).status_code == 404


# ---------------------------------------------------------------- the breaker


class Endpoint:
    """What an effect meets: for each task, a row of answers, of which the last stays. 200 is a success."""

    def __init__(self, house: House, *answers: int) -> None:
        self.house, self.answers = house, answers
        self.met: Counter[str] = Counter()
        self.poisoned: set[str] = set()
        self.times: list[float] = []

    async def __call__(self, work: Work) -> Done:
        if work.definition.name == "two":
            return Done(detail={})
        answer = self.answers[min(self.met[work.task_id], len(self.answers) - 1)]
        self.met[work.task_id] += 1
        self.times.append(self.house.clock())
        if work.task_id in self.poisoned:
            raise ActionFailed("the program ended with exit code 3")
        if answer != 200:
            category = FailureClass.THROTTLED if answer == 429 else FailureClass.UNWELL
            raise ActionFailed(f"the target answered {answer}", category=category)
        return Done(detail={})


BREAKING = TWO.replace("breaker = 3", "breaker = 10")


@pytest.mark.story
async def test_ten_bad_events_hold_up_no_good_ones(tmp_path: Path) -> None:
    async with open_house(tmp_path, BREAKING) as house:
        house.effect = endpoint = Endpoint(house, 200)
        bad = await end_tasks(house.store, 10, house.service.definitions, house.clock())
        endpoint.poisoned = {task.id for task in bad}
        await house.settle()
        assert (await definition(house))["breaker"] == "open"
        await house.advance(4)  # the bad ones are due again, before the good ones come
        good = await end_tasks(house.store, 30, house.service.definitions, house.clock())
        await house.advance(40)
        assert {(await house.task(task.id)).actions[0].state for task in good} == {"done"}


@pytest.mark.story
async def test_while_events_succeed_bad_ones_open_no_breaker(tmp_path: Path) -> None:
    async with open_house(tmp_path, BREAKING) as house:
        house.effect = endpoint = Endpoint(house, 200)
        await end_tasks(house.store, 1, house.service.definitions, house.clock())
        await house.settle()
        endpoint.poisoned = {task.id for task in await end_tasks(house.store, 20, house.service.definitions, NOW)}
        await house.advance(20)
        assert (await definition(house))["breaker"] == "closed"


@pytest.mark.story
async def test_events_that_fail_twice_each_come_to_their_end_one_trial_after_another(tmp_path: Path) -> None:
    async with open_house(tmp_path, BREAKING) as house:
        house.effect = endpoint = Endpoint(house, 500, 429, 200)
        tasks = await end_tasks(house.store, 20, house.service.definitions, house.clock())
        await house.advance(60)
        assert (await definition(house))["breaker"] != "closed"
        gaps = [later - earlier for earlier, later in pairwise(endpoint.times[10:])]
        assert all(4.9 < gap < 31 for gap in gaps)
        await house.advance(240)
        assert {(await house.task(task.id)).actions[0].state for task in tasks} == {"done"}


@pytest.mark.story
async def test_every_action_that_waits_says_what_it_waits_for(tmp_path: Path) -> None:
    toml = TWO + 'after = ["one"]\n'
    async with open_house(tmp_path, toml) as house:
        (task,) = await end_tasks(house.store, 1, house.service.definitions, house.clock())

        async def waits() -> list[str | None]:
            return [each.waits_for for each in (await house.task(task.id)).actions]

        assert await waits() == [None, sentences.WAITS_FOR["others"]]
        await house.api.post("/definitions/one/pause")
        assert (await waits())[0] == sentences.WAITS_FOR["resume"]
        await change(house, "update actions set held = 1, due_at = null where name = 'two'")
        assert (await waits())[1] == sentences.WAITS_FOR["confirmation"]
        (tmp_path / "receiver.toml").write_text(TWO.partition('[[actions]]\nname = "two"')[0])
        await house.reopen()
        assert (await waits())[1] == sentences.WAITS_FOR["definition"]


# ---------------------------------------------------------------- doors


@pytest.mark.story
async def test_a_callback_is_asked_for_ever_more_rarely_while_the_door_is_shut_and_at_once_when_it_opens(
    house: House,
) -> None:
    house.url_works = False
    task_id = await house.submit()
    await house.advance(10 * 86_400)
    asked = [request.at for request in house.simulator.requests if request.route == "resend"]
    rests = [round(later - earlier) for earlier, later in pairwise(asked)]
    assert rests[:5] == [600, 3600, 6 * 3600, 86_400, 86_400]
    assert (len(asked), await house.alerts()) == (13, ["callback_missed"])
    house.url_works = True
    later = await house.submit()
    await house.advance(60)
    assert ((await house.task(later)).state, (await house.task(task_id)).callback.miss) == ("succeeded", "late")
    assert await house.alerts() == []
    await house.advance(3 * 86_400)
    assert house.simulator.count("resend") == 14


@pytest.mark.story
async def test_a_callback_that_never_comes_costs_few_resends_however_many_others_come(house: House) -> None:
    house.url_works = False
    await house.submit()
    await house.advance(700)
    house.url_works = True
    house.simulator.outage("resend", "500")
    asked = house.simulator.count("resend")
    for _ in range(30):
        await house.submit()
        await house.advance(60)
    assert 1 <= house.simulator.count("resend") - asked <= 8
    assert await house.alerts() == []


@pytest.mark.story
async def test_the_alert_about_callbacks_that_were_not_registered_closes_when_later_ones_come(house: House) -> None:
    house.simulator.outage("detail", "code", code="1")
    task_id = await house.submit(Fault.NEVER_SENT)
    await house.advance(600)
    assert (await house.task(task_id)).callback.cause == "unregistered"
    assert await house.alerts() == ["callback_missed"]
    await house.submit()
    await house.advance(60)
    assert await house.alerts() == []


# ---------------------------------------------------------------- results that come late


@pytest.mark.story
async def test_results_that_the_callback_brought_and_the_query_does_not_know_are_read_where_they_are_kept(
    house: House,
) -> None:
    task_id = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    provider_id = (await house.task(task_id)).provider_task_id or ""
    callback = callback_of(provider_id)
    empty = {"taskId": provider_id, "status": "SUCCESS", "errorCode": "", "results": None}
    kept = {
        "id": "7",
        "taskId": provider_id,
        "callbackStatus": "SUCCESS",
        "eventData": json.loads(callback)["eventData"],
    }

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=empty if request.url.path.endswith("query") else {"code": 0, "data": kept})

    http = httpx.AsyncClient(transport=httpx.MockTransport(answer), verify=TLS)
    house.service.asker.provider = RunningHub(http, "http://simulator.test", API_KEY)
    await house.http.post(house.callback_path(task_id), content=callback)
    await house.settle()
    task = await house.task(task_id)
    assert (task.state, [each.url for each in task.results]) == ("succeeded", ["http://evil.test/x.mp4"])
    assert task.event is not None
    assert task.event.confirmed


@pytest.mark.story
async def test_results_that_come_a_moment_after_the_end_are_there_a_moment_later(house: House) -> None:
    task_id = await house.submit(Fault.NO_RESULTS, results_after_queries=2)
    await house.advance(20)
    task = await house.task(task_id)
    assert (task.state, len(task.results) > 0) == ("succeeded", True)


# ---------------------------------------------------------------- programs that outlive their server

LASTING = """
[[actions]]
name = "last"
kind = "command"
command = ["sh", "last.sh"]
lease = 600
timeout = 3600
"""
SCRIPT = """
cat > /dev/null
echo $$ >> begun
trap '' HUP
while test -e wait; do sleep 0.1; done
"""


@pytest.mark.slow
async def test_a_program_that_outlived_a_killed_server_is_ended_before_it_is_run_again(tmp_path: Path) -> None:
    database, (task,) = await prepared(tmp_path, 1, LASTING)
    begun, wait = tmp_path / "begun", tmp_path / "wait"
    wait.touch()
    (tmp_path / "last.sh").write_text(SCRIPT)
    async with running(tmp_path) as server:
        assert (await server.ask(request("POST", task.path, success(task, 0)))).status == 200
        await until(begun.exists)
        await until(lambda: begun.read_text().endswith("\n"))
        await server.kill()
    first = int(begun.read_text())
    assert name_of(first) is not None
    async with running(tmp_path) as server:
        assert name_of(first) is None
        wait.unlink()
        await until(lambda: action_states(database) == {"done": 1})
        await server.stop()
    assert rows(database, "select outcome from attempts order by number") == [("interrupted",), ("done",)]


async def test_a_process_of_another_name_is_left_alone() -> None:
    running, child = asyncio.Event(), Child(1.0, None)

    async def note(name: str) -> None:
        noted.append(name)
        running.set()

    noted: list[str] = []
    child = Child(1.0, note)
    ending = asyncio.create_task(child.run([sys.executable, "-S", "-c", "import time; time.sleep(60)"], b"", {}))
    await running.wait()
    pid, started, boot = noted[0].split()
    await end_left_behind(f"{pid} {int(started) + 1} {boot}")
    await end_left_behind(f"{pid} {started} another-boot")
    assert name_of(int(pid)) == noted[0]
    await end_left_behind(noted[0])
    assert (await ending).code == -15
    assert name_of(int(pid)) is None


# ---------------------------------------------------------------- rows of another version


@pytest.mark.story
async def test_a_task_of_another_version_holds_no_other_task_up(house: House) -> None:
    bad, good = await house.submit(Fault.LOST_CALLBACK), await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    await change(house, "update tasks set kind = 'hologram', check_at = ? where id = ?", house.clock(), bad)
    await house.advance(300)
    assert ((await house.task(good)).state, await house.alerts()) == ("succeeded", ["task_unreadable"])
    listed = {each["id"]: each for each in (await house.api.get("/tasks")).json()["items"]}
    assert (listed[bad]["kind"], listed[bad]["error"]["code"]) == ("hologram", "unreadable")
    assert (await house.api.get(f"/tasks/{bad}")).json()["error"]["code"] == "unreadable"
    await change(house, "update tasks set kind = 'model' where id = ?", bad)
    await house.reopen()
    await house.advance(300)
    assert ((await house.task(bad)).state, await house.alerts()) == ("succeeded", [])


@pytest.mark.story
async def test_an_order_of_another_version_does_not_stop_the_queue(house: House) -> None:
    bad, good = await house.submit(), await house.submit()
    await change(house, "update tasks set input = '{' where id = ?", bad)
    await house.advance(60)
    assert (await house.task(good)).state == "succeeded"
    assert house.simulator.count("submit") == 1
    assert await house.store.queue_resumes_at(house.clock(), 9) is None


@pytest.mark.story
async def test_an_event_of_another_version_is_dead_and_holds_no_other_action_up(house: House) -> None:
    first, second = await end_tasks(house.store, 2, house.service.definitions, house.clock())
    await change(house, "update events set source = 'telepathy' where task = ?", first.key)
    await house.settle()
    assert house.effects_of(second.id) == ["on-success"]
    states = {each["task"]: each["state"] for each in (await house.api.get("/actions")).json()["items"]}
    assert (states, await house.alerts()) == ({first.id: "dead", second.id: "done"}, ["action_dead"])


@pytest.mark.parametrize(
    ("path", "sql"),
    [
        ("/tasks", "update tasks set labels = '['"),
        ("/tasks", "update tasks set state = 'frozen'"),
        ("/tasks", "update tasks set error = '7'"),
        ("/events", "update events set state = 'succeeded', results = '{}'"),
        ("/actions", "update actions set state = 'dreaming'"),
        ("/alerts", "update alerts set kind = 'gremlins'"),
        ("/definitions", "update definitions set failed = 'x'"),
        ("/replays", "insert into replays (mode, filter, created_at, matched) values ('dream', '[', 1, 0)"),
    ],
)
@pytest.mark.story
async def test_a_list_shows_what_can_be_read_of_a_row(house: House, path: str, sql: str) -> None:
    (task,) = await end_tasks(house.store, 1, house.service.definitions, house.clock())
    await house.store.raise_alert("disk", "x", "full", house.clock())  # type: ignore[arg-type]
    await house.store.add_check(task.id, NewCheck(kind=CheckKind.QUERY, at=NOW, seconds=0.0, ok=True, summary=""))
    await change(house, sql)
    answer = await house.api.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.json()["items"]
