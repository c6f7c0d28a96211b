"""What is held at once: lists do not read what they do not show, replays go in slices, requests are bounded."""

import asyncio
import json
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from house import INPUT, MODEL, House, open_house
from ledgers import end_tasks
from long_ledger import NOW, make
from servers import ADMIN_TOKEN, Server, indiscretions, running

from receiver.actions.settings import HttpDefinition
from receiver.cli.show import document, document_of
from receiver.model import rules
from receiver.model.entries import NewDelivery, Replay, Selection, Settlement
from receiver.model.records import End, Filter, Purpose, ReplayMode
from receiver.model.views import PageView, ReplayBody
from receiver.replay import go_on, go_on_with_any, replay
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.engine import SqliteTransaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")
MEGABYTE = 2**20
HOOK = HttpDefinition(name="hook", url="http://127.0.0.1:9/", timeout=30, on=(End.SUCCEEDED,))
BIG = {("tasks", "input"), ("tasks", "uploads"), ("deliveries", "body"), ("events", "extra")}


class Watched(SqliteStore):
    """Notes every column that is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.columns: set[tuple[str | None, str | None]] = set()

    async def read(self, work: Callable[[Transaction], T]) -> T:
        def watch(action: int, table: str | None, column: str | None, *_: str | None) -> int:
            if action == sqlite3.SQLITE_READ:
                self.columns.add((table, column))
            return sqlite3.SQLITE_OK

        def watched(tx: Transaction) -> T:
            assert isinstance(tx, SqliteTransaction)
            tx.connection.set_authorizer(watch)
            try:
                return work(tx)
            finally:
                tx.connection.set_authorizer(None)

        return await super().read(watched)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Watched]:
    store = Watched(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions([HOOK], NOW)
    yield store
    await store.close()


async def test_no_list_reads_inputs_or_bodies(store: Watched) -> None:
    (task,) = await end_tasks(store, 1, [HOOK], NOW)
    await store.record_delivery(NewDelivery(task=task.id, purpose=Purpose.SUBMIT, body=b"{", digest=b"1", size=1), NOW)
    store.columns.clear()
    for listed in (store.tasks, store.deliveries, store.events, store.actions, store.alerts, store.replays):
        await listed(Filter())
    assert ("tasks", "input_start") in store.columns
    assert store.columns & BIG == set()


@pytest.mark.parametrize("mode", [ReplayMode.AGAIN, ReplayMode.MISSING, ReplayMode.RETRY])
@pytest.mark.parametrize("dry", [True, False])
async def test_no_replay_reads_inputs(store: Watched, mode: ReplayMode, dry: bool) -> None:
    await end_tasks(store, 1, [HOOK], NOW)
    store.columns.clear()
    order = ReplayBody(mode=mode, dry_run=dry, filter=Selection(action_state=("owed",)))
    matched, _ = await replay(store, [HOOK], order, {}, NOW)
    assert matched == 0
    assert store.columns & {*BIG, ("events", "results")} == set()


async def test_what_waits_for_another_does_so_though_a_slice_ends_between_them(tmp_path: Path) -> None:
    first = HttpDefinition(name="first", url="http://127.0.0.1:9/", timeout=30, on=(End.SUCCEEDED,))
    second = HttpDefinition(name="second", url="http://127.0.0.1:9/", timeout=30, on=(End.SUCCEEDED,), after=("first",))
    both = [second, first]
    store = Watched(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions(both, NOW)
    await end_tasks(store, 1, [first], NOW)
    await end_tasks(store, rules.REPLAY_SLICE // 2 + 2, both, NOW)
    await store.write(lambda tx: tx.change("update actions set state = 'dead', due_at = null, settled_at = ?", NOW))
    _, made = await replay(store, both, ReplayBody(), {}, NOW + 60)
    assert made is not None
    assert (made.matched, made.searching) == (rules.REPLAY_SLICE + 5, False)
    owed = (await store.actions(Filter(limit=500))).items
    assert {(each.name, each.due_at) for each in owed} == {("first", NOW + 60), ("second", None)}
    await store.cancel_replay(made.id, NOW + 61)
    cancelled = await go_on(store, both, made.id, NOW + 61)
    assert cancelled is not None
    assert (cancelled.cancelled, cancelled.state) == (made.matched, "cancelled")
    await store.resume_replay(made.id, NOW + 62)
    resumed = await go_on(store, both, made.id, NOW + 62)
    assert resumed is not None
    assert (resumed.cancelled, resumed.state) == (0, "running")
    owed = (await store.actions(Filter(limit=500))).items
    assert {(each.name, each.due_at) for each in owed} == {("first", NOW + 62), ("second", None)}
    await store.close()


# ---------------------------------------------------------------- long ledgers


ROWS = 12_000


async def through(store: SqliteStore, number: int, most: int = 1000) -> Replay:
    """The replay, gone on with as a server does, for so many steps at the most."""
    for _ in range(most):
        if await go_on_with_any(store, [HOOK], NOW) is None:
            break
    found = await store.replay(number)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("mode", [ReplayMode.AGAIN, ReplayMode.MISSING])
async def test_a_large_replay_goes_on_where_it_was_when_the_server_starts_anew(
    tmp_path: Path, mode: ReplayMode
) -> None:
    make(tmp_path / "receiver.db", ROWS)
    store = SqliteStore(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions([HOOK], NOW)
    wanted, _ = await replay(store, [HOOK], ReplayBody(mode=mode, dry_run=True), {}, NOW)
    begun, made = await replay(store, [HOOK], ReplayBody(mode=mode, rate=10.0), {}, NOW)
    assert made is not None
    assert 0 < begun < wanted
    assert (made.searching, made.state) == (True, "running")
    await store.close()

    store = SqliteStore(tmp_path / "receiver.db")
    await store.open()
    found = await through(store, made.id)
    assert (found.matched, found.searching, found.state) == (wanted, False, "running")
    about = "select count(*) as n, count(distinct task) as tasks, count(distinct due_at) as times from actions"
    row = await store.read(lambda tx: tx.one(f"{about} where name = 'hook'"))
    assert (row["n"], row["tasks"], row["times"]) == (wanted, wanted, wanted)
    await store.close()


@pytest.mark.slow
async def test_a_replay_that_is_cancelled_while_it_searches_may_be_resumed_and_then_finds_the_rest(
    tmp_path: Path,
) -> None:
    make(tmp_path / "receiver.db", ROWS)
    store = SqliteStore(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions([HOOK], NOW)
    wanted, _ = await replay(store, [HOOK], ReplayBody(mode=ReplayMode.MISSING, dry_run=True), {}, NOW)
    begun, made = await replay(store, [HOOK], ReplayBody(mode=ReplayMode.MISSING), {}, NOW)
    assert made is not None
    await store.cancel_replay(made.id, NOW)
    cancelled = await through(store, made.id)
    assert (cancelled.cancelled, cancelled.state, cancelled.searching) == (begun, "cancelled", True)
    await store.resume_replay(made.id, NOW)
    resumed = await through(store, made.id)
    assert (resumed.matched, resumed.cancelled, resumed.state, resumed.searching) == (wanted, 0, "running", False)
    await store.close()


def memory(server: Server, name: str) -> int:
    """VmRSS (now) or VmHWM (the most ever) of a server, in bytes."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{server.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


LARGE, EACH = 800, 200_000
SETTINGS = """
keep_files = false
[callbacks]
disk_floor = 0
[[actions]]
name = "hook"
kind = "http"
url = "http://127.0.0.1:9/"
"""


@pytest.mark.slow
async def test_lists_and_replays_of_large_orders_take_little_memory_and_others_are_answered(tmp_path: Path) -> None:
    make(tmp_path / "receiver.db", LARGE)
    connection = sqlite3.connect(tmp_path / "receiver.db")
    connection.execute("update tasks set input = ?", (json.dumps({"prompt": "x" * EACH}),))
    connection.commit()
    connection.close()
    (tmp_path / "receiver.toml").write_text(SETTINGS)
    async with running(tmp_path) as server:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with httpx.AsyncClient(base_url=f"{server.url}/api", headers=headers, timeout=60) as api:
            await api.post("/definitions/hook/pause")
            before, slowest, done = memory(server, "VmRSS"), 0.0, asyncio.Event()

            async def others() -> None:
                nonlocal slowest
                while not done.is_set():
                    begun = time.monotonic()
                    assert (await api.get("/alerts?limit=1")).status_code == 200
                    slowest = max(slowest, time.monotonic() - begun)

            asking = asyncio.create_task(others())
            listed = await api.get("/tasks?limit=500")
            assert len(listed.content) < 2 * MEGABYTE
            for mode in ("again", "missing", "retry", "reprocess"):
                dry = (await api.post("/replays", json={"mode": mode, "dry_run": True})).json()["matched"]
                made = (await api.post("/replays", json={"mode": mode, "all": True})).json()
                assert (made["matched"], made["searching"]) == (dry if mode != "missing" else 0, False)
            done.set()
            await asking
        assert memory(server, "VmHWM") - before < 60 * MEGABYTE
        assert slowest < 1.0
        await server.stop()


@pytest.mark.slow
async def test_a_request_that_breaks_off_leaves_no_traceback(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text(SETTINGS)
    async with running(tmp_path) as server:
        for path in ("/api/tasks", "/api/previews", "/api/replays", "/api/uploads?name=one.png"):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Length: 999"
            writer.write(f"{head}\r\n\r\n{{".encode())
            await writer.drain()
            writer.close()
        assert (await server.get("/healthz")).status == 200
        await server.stop()
        assert indiscretions(server) == []


# ---------------------------------------------------------------- requests


@pytest.mark.story
async def test_a_list_shows_how_an_input_begins_and_the_task_itself_all_of_it(house: House) -> None:
    order = {"target": "a/b", "validate": False, "input": {"accessPassword": "sesame", "prompt": "é" * 5000}}
    task = (await house.api.post("/tasks", json=order)).json()
    (listed,) = (await house.api.get("/tasks")).json()["items"]
    assert "input" not in listed
    assert "uploads" not in listed
    assert "sesame" not in listed["input_start"]
    assert len(listed["input_start"]) == rules.INPUT_SHOWN
    assert listed["input_size"] == len(json.dumps(order["input"], ensure_ascii=False, separators=(",", ":")).encode())
    shown = (await house.api.get(f"/tasks/{task['id']}")).json()
    assert shown["input"]["prompt"] == order["input"]["prompt"]  # type: ignore[index]


@pytest.mark.story
@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("&".join(["label=a:b"] * 1200), "label"),
        ("q=" + "x" * 60_000, "q"),
        ("target=" + "x" * 600, "target"),
        ("label=a:" + "x" * 600, "label"),
        ("state=" + ",".join(["queued"] * 1200), "state"),
    ],
)
async def test_a_filter_of_too_much_is_refused_by_its_name(house: House, query: str, path: str) -> None:
    answer = await house.api.get(f"/tasks?{query}")
    assert answer.status_code == 422
    (problem,) = answer.json()["error"]["details"]
    assert problem["path"] == path
    assert "at the most" in problem["message"]


@pytest.mark.story
async def test_as_many_filters_as_an_order_may_have_labels_are_answered(house: House) -> None:
    query = "&".join(f"label=n{number}:v" for number in range(rules.FILTERS_LIMIT))
    assert (await house.api.get(f"/tasks?{query}&q=x&state=queued,queued")).status_code == 200


@pytest.mark.story
async def test_an_order_has_a_mebibyte_at_the_most(house: House) -> None:
    async def answer(size: int, **more: object) -> httpx.Response:
        return await house.api.post("/tasks", json={"target": MODEL, "input": {**INPUT, "prompt": "x" * size}, **more})

    for size in (rules.ORDER_LIMIT, 7 * MEGABYTE):
        refused = await answer(size, validate=False)
        assert refused.status_code == 422
        assert "1 MiB at the most" in refused.text
    assert (await answer(rules.BODY_LIMIT)).status_code == 413
    hidden = {"target": "a/b", "validate": False, "input": {"prompt": {"x": "data:" + "x" * rules.ORDER_LIMIT}}}
    assert (await house.api.post("/tasks", json=hidden)).json()["error"]["details"][0]["path"] == "input"
    assert (await house.api.get("/tasks")).json()["items"] == []


@pytest.mark.story
async def test_a_request_with_many_mistakes_is_answered_with_a_hundred(house: House) -> None:
    answer = await house.api.post("/tasks", json={f"x{number}": 1 for number in range(50_000)})
    assert answer.status_code == 422
    assert len(answer.json()["error"]["details"]) == 101
    assert len(answer.content) < 100_000


async def test_a_replay_of_one_task_looks_at_no_other(tmp_path: Path) -> None:
    async with open_house(tmp_path) as house:
        tasks = await end_tasks(house.store, 3, house.service.definitions, house.clock())
        (owed,) = (await house.store.actions(Filter(task=tasks[1].id))).items
        claimed = await house.store.claim_action(owed.name, house.clock(), 60)
        assert claimed is not None
        await house.store.settle_action(claimed, Settlement(outcome="done"), house.clock())
        made = (await house.api.post("/replays", json={"mode": "again", "filter": {"task": claimed.task.id}})).json()
        assert (made["matched"], made["searching"]) == (1, False)


async def test_what_a_definition_that_is_gone_owes_is_skipped_in_slices_until_nothing_is_left(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions([HOOK], NOW)
    await end_tasks(store, rules.REPLAY_SLICE + 5, [HOOK], NOW)
    await store.sync_definitions([], NOW)
    assert await store.skip_orphans(NOW + 1, NOW + 1) == rules.REPLAY_SLICE
    assert await store.skip_orphans(NOW + 1, NOW + 1) == 5
    assert await store.skip_orphans(NOW + 1, NOW + 1) == 0
    assert len((await store.actions(Filter(state=("skipped",), limit=500))).items) == rules.REPLAY_SLICE + 5
    await store.close()


async def test_all_pages_of_a_list_are_printed_as_they_come_in_one_document(
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = PageView[int](items=[1], next="more")
    document_of(page, iter([1, 2, 3]))
    assert json.loads(capsys.readouterr().out) == {"items": [1, 2, 3], "next": "more"}
    document(PageView[int](items=[], next=None))
    whole = capsys.readouterr().out
    document_of(PageView[int](items=[], next=None), iter([]))
    assert capsys.readouterr().out == whole
