"""Nothing stands still: sleeping laptops, sites that change, bad events, shut doors, programs left behind, bad rows."""

import asyncio
import json
import sqlite3
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from house import ADMIN_TOKEN, API_KEY, INPUT, MODEL, TLS, Clock, House, open_house
from ledgers import end_tasks
from servers import action_states, prepared, request, rows, running, success, until
from test_breaker import TOML as TWO
from test_breaker import definition
from test_ledger_file_served import says
from test_stories import callback_of
from uuid_utils import uuid7

from receiver.actions import ActionFailed, Done, Work
from receiver.actions.child import Child, end_left_behind, name_of
from receiver.cli.check import examine
from receiver.model.definitions import FailureClass
from receiver.model.entries import NewCheck, NewTask
from receiver.model.records import CheckKind, End, Filter, Kind, Source
from receiver.reconcile.recording import Recorder
from receiver.runninghub.client import RunningHub
from receiver.runninghub.wire import TaskReport
from receiver.server.service import Service
from receiver.server.settings import load_settings
from receiver.simulator import Fault
from receiver.store import Store
from receiver.store.ledger.transaction import Transaction

NOW = 1_790_000_000.0
PROVIDER_ID = "2052287938007814145"
ELSEWHERE = "http://other.test"


async def an_order(store: Store) -> str:
    order = NewTask(id=str(uuid7()), kind=Kind.MODEL, target="a/b", input={}, labels={}, digest=b"")
    await store.add_task(order, NOW)
    return order.id


async def change(house: House, sql: str, *values: object) -> None:
    """What another version, or another program, has written."""

    def work(tx: Transaction) -> None:
        tx.change(sql, *values)

    await house.store.write(work)


# ---------------------------------------------------------------- submissions in hand


@asynccontextmanager
async def served(directory: Path, site: str, transport: httpx.MockTransport, clock: Clock) -> AsyncIterator[Service]:
    """The whole server without its loops, in front of a provider of one's own."""
    given = {
        "RECEIVER_DATABASE": f"sqlite:///{directory / 'receiver.db'}",
        "RECEIVER_ADMIN_TOKEN": ADMIN_TOKEN,
        "RUNNINGHUB_API_KEY": API_KEY,
        "RUNNINGHUB_BASE_URL": site,
    }
    service = Service(load_settings(given, directory), clock=clock, transport=transport, read_wait=0.0, tls=TLS)
    await service.start(loops=False)
    yield service
    await service.close()


@pytest.mark.parametrize("seconds", [11 * 60, 3 * 86_400])
async def test_a_clock_that_steps_on_during_a_submission_brings_no_doubt(tmp_path: Path, seconds: float) -> None:
    clock, serving = Clock(NOW), list[Service]()

    async def answer(_: httpx.Request) -> httpx.Response:
        clock.now += seconds
        await serving[0].housekeep()
        return httpx.Response(200, json={"taskId": PROVIDER_ID, "status": "RUNNING", "errorCode": ""})

    async with served(tmp_path, "https://one.test", httpx.MockTransport(answer), clock) as service:
        serving.append(service)
        task_id = await an_order(service.store)
        await service.submit_next()
        task = await service.store.task(task_id)
        assert task is not None
        assert (task.state, task.provider_task_id) == ("submitted", PROVIDER_ID)
        ever = [each.kind for each in (await service.store.alerts(Filter())).items]
        assert (ever, [each.kind for each in await service.store.checks(task_id)]) == ([], ["submit"])


async def test_a_submission_whose_sender_is_gone_comes_into_doubt_all_the_same(tmp_path: Path) -> None:
    clock, transport = Clock(NOW), httpx.MockTransport(lambda _: httpx.Response(200))
    async with served(tmp_path, "https://one.test", transport, clock) as service:
        task_id = await an_order(service.store)
        await service.store.take_queued_task(NOW, 9, callback=False)
        clock.now += 11 * 60
        await service.housekeep()
        task = await service.store.task(task_id)
        assert task is not None
        assert task.state == "in_doubt"


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
    clock, seen = Clock(NOW), list[str]()
    async with served(tmp_path, "https://old.test", sites(seen), clock) as service:
        task_id = await an_order(service.store)
        await service.submit_next()
    assert seen == ["old.test"]
    seen.clear()
    clock.now += 120
    async with served(tmp_path, "https://new.test", sites(seen, old_has_moved=moved), clock) as service:
        assert await service.reconcile_next()
        task = await service.store.task(task_id)
        assert task is not None
        assert (task.state, task.provider_status, seen) == ("submitted", "RUNNING", asked)
        assert (await service.store.alerts(Filter())).items == []


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
        found = "1 open tasks were sent to http://simulator.test, and are asked about there"
        assert looked_at(tmp_path, API_KEY) == [("warning", found)]
        await house.advance(90_000)
        assert ((await house.task(task_id)).state, await house.alerts()) == ("succeeded", [])


def looked_at(directory: Path, key: str) -> list[tuple[str, str]]:
    """What `receiver check` says of the site when base_url is another one now."""
    given = {
        "RUNNINGHUB_BASE_URL": ELSEWHERE,
        "RUNNINGHUB_API_KEY": key,
        "RECEIVER_DATABASE": f"sqlite:///{directory / 'receiver.db'}",
    }

    async def ask(_: str) -> None:
        await asyncio.sleep(0)

    with ThreadPoolExecutor(1) as thread:
        findings = thread.submit(examine, load_settings(given, directory), directory, (), ask).result()
    return [(each.verdict, each.found) for each in findings if "open tasks" in each.found]


@pytest.mark.story
async def test_no_site_is_shown_a_key_that_was_never_used_there(tmp_path: Path) -> None:
    other_key = "ffffffffffffffffffffffffffffffff"
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "1"}) as house:
        task_id = await house.submit(Fault.LOST_CALLBACK)
        await house.settle()
        asked = len(house.simulator.requests)
        await house.reopen(RUNNINGHUB_BASE_URL=ELSEWHERE, RUNNINGHUB_API_KEY=other_key)
        await house.advance(90_000)
        assert house.simulator.requests[asked:] == []
        assert ((await house.task(task_id)).state, await house.alerts()) == ("submitted", ["tasks_elsewhere"])
        ((word, found),) = looked_at(tmp_path, other_key)
        assert (word, "where today's API key was never used: they are not asked about" in found) == ("warning", True)
        answer = await house.api.get(f"/tasks/{task_id}/outputs")
        assert (answer.status_code, house.simulator.requests[asked:]) == (502, [])
        # It takes no place from those that are sent today.
        await house.submit()
        assert await house.store.take_queued_task(house.clock(), 1, callback=True, site=ELSEWHERE) is not None
        await house.reopen(RUNNINGHUB_BASE_URL="http://simulator.test", RUNNINGHUB_API_KEY=API_KEY)
        await house.advance(700)
        assert (await house.task(task_id)).state == "succeeded"


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
async def test_a_claim_that_nobody_confirms_ends_no_doubt_and_the_truth_does(house: House) -> None:
    house.simulator.outage("submit", "500", times=1)
    first = await house.submit(Fault.NEVER_SENT)
    await house.settle()
    forged = await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    task = await house.store.task(forged)
    assert task is not None
    await house.store.mark_overdue(task, house.clock())
    house.simulator.outage("query", "503")
    house.simulator.outage("detail", "503")
    for task_id in (first, forged):
        await house.http.post(house.callback_path(task_id), content=callback_of(task.provider_task_id or ""))
    await house.advance(900)
    states = [(await house.task(task_id)).state for task_id in (first, forged)]
    assert states == ["succeeded", "succeeded"]
    opened = sorted(set(await house.alerts()) - {"provider_unreachable", "callback_missed"})
    assert opened == ["task_in_doubt", "task_overdue"]
    house.simulator.heal()
    await house.advance(3000)
    event = (await house.task(forged)).event
    assert event is not None
    assert event.confirmed
    assert set(await house.alerts()) & {"task_in_doubt", "task_overdue"} == {"task_in_doubt"}
    doubted = await house.store.task(first)
    assert doubted is not None
    report = TaskReport(task_id="7", status="FAILED", end=End.FAILED)
    await Recorder(house.store, (), house.clock).record(doubted, report, None, Source.QUERY)
    assert "task_in_doubt" not in await house.alerts()


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

        assert await waits() == [None, "the actions it comes after"]
        await house.api.post("/definitions/one/pause")
        assert (await waits())[0] == "its definition to be resumed"
        await change(house, "update actions set held = 1, due_at = null where name = 'two'")
        assert (await waits())[1] == "RunningHub to confirm the end"
        (tmp_path / "receiver.toml").write_text(TWO.partition('[[actions]]\nname = "two"')[0])
        await house.reopen()
        assert (await waits())[1] == "its definition, which is not in the settings"


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
    told = await house.api.get(f"/tasks/{bad}")
    assert (told.status_code, told.json()["id"], told.json()["state"]) == (200, bad, "unreadable")
    assert told.json()["error"]["message"] == "unreadable, perhaps of another version: kind"
    await change(house, "update tasks set kind = 'model' where id = ?", bad)
    await house.reopen()
    await house.advance(300)
    assert ((await house.task(bad)).state, await house.alerts()) == ("succeeded", [])


@pytest.mark.story
async def test_a_task_of_which_something_else_is_of_another_version_is_set_aside(house: House) -> None:
    bad, good = await house.submit(Fault.LOST_CALLBACK), await house.submit(Fault.LOST_CALLBACK)
    await house.settle()
    provider_id = (await house.task(bad)).provider_task_id or ""
    await house.http.post(house.callback_path(bad), content=callback_of(provider_id, "RUNNING"))
    await change(house, "update deliveries set purpose = 'telepathy'")
    await house.advance(300)
    assert ((await house.task(good)).state, await house.alerts()) == ("succeeded", ["task_unreadable"])
    await change(house, "update deliveries set purpose = 'submit'")
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
    assert any("unreadable" in json.dumps(each) for each in answer.json()["items"]) == (path != "/definitions")
    detail = await house.api.get(f"/tasks/{task.id}")
    assert (detail.status_code, detail.json()["id"]) == (200, task.id)


@pytest.mark.parametrize(
    "sql",
    [
        "update tasks set state = 'frozen'",
        "update tasks set kind = 'hologram'",
        "update events set state = 'dreamt'",
        "update events set results = '{', source = 'telepathy'",
        "update actions set state = 'dreaming'",
        "update attempts set detail = '['",
        "update checks set kind = 'seance'",
        "update tasks set input = '[', labels = '7', uploads = '7'",
    ],
)
@pytest.mark.story
async def test_what_cannot_be_read_is_in_every_list_that_it_belongs_to_and_in_its_task(house: House, sql: str) -> None:
    order = {"target": MODEL, "input": INPUT, "labels": {"project": "x"}}
    task_id = (await house.api.post("/tasks", json=order)).json()["id"]
    await house.advance(60)
    await change(house, sql)
    await change(house, "update task_labels set kind = (select kind from tasks where key = task)")
    lists = ("/tasks", f"/tasks?target={MODEL}", "/tasks?label=project:x", "/events", "/events?label=project:x")
    for path in (*lists, f"/events?task={task_id}", "/actions", f"/actions?task={task_id}"):
        answer = await house.api.get(path)
        shown = {each.get("task", each["id"]): each["state"] for each in answer.json()["items"]}
        assert list(shown) == [task_id], path
    detail = await house.api.get(f"/tasks/{task_id}")
    assert detail.status_code == 200, detail.text
    assert "unreadable" in detail.text or "attempts" in sql


@pytest.mark.slow
async def test_the_command_line_shows_a_task_that_cannot_be_read(tmp_path: Path) -> None:
    database, (task,) = await prepared(tmp_path, 1)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update tasks set state = 'frozen', labels = '['")
    async with running(tmp_path):
        assert (await says(tmp_path, "tasks")).count("unreadable") == 2
        assert "ROW_UNREADABLE: unreadable, perhaps of another version: labels, state" in await says(
            tmp_path, "task", task.id
        )
        assert "cannot be read" in await says(tmp_path, "reconcile", task.id, code=1)
