"""What is old goes, a little at a time; what anybody may need for work that is not over never does."""

import hashlib
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
from house import MODEL, House, open_house
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ledgers import end_tasks
from long_ledger import make

from receiver.housekeep.prune import DAY, Pruning
from receiver.model import retention
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import NewCheck, NewDelivery, Selection, Settlement
from receiver.model.errors import Refused
from receiver.model.records import AlertKind, CheckKind, Filter, Purpose, ReplayMode, Task
from receiver.model.views import PruneView, ReplayBody
from receiver.replay import go_on, replay
from receiver.server.settings import Settings
from receiver.store.ledger.pruning import KINDS
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.engine import SqliteTransaction
from receiver.store.sqlite.store import SqliteStore

T = TypeVar("T")

NOW = 1_790_000_000.0
LATER = NOW + 31 * DAY
HOOK = Definition(name="hook", kind=ActionKind.PYTHON, timeout=30)
FOR_EVER = dict.fromkeys(retention.Keep.__struct_fields__, 0.0)
SMALL = {"SCAN pruned"}
"""Tables of a few rows, which a statement may go through."""
ALL_GO = retention.Keep(**dict.fromkeys(retention.Keep.__struct_fields__, 30.0))


def keep(**days: float) -> retention.Keep:
    return retention.Keep(**{**FOR_EVER, **days})


class Planning(SqliteTransaction):
    """Notes how SQLite goes about each statement before it runs it."""

    def __init__(self, connection: sqlite3.Connection, plans: dict[str, list[str]]) -> None:
        super().__init__(connection)
        self._plans = plans

    def all(self, sql: str, *values: object) -> list[Any]:
        self._note(sql, *values)
        return super().all(sql, *values)

    def change(self, sql: str, *values: object) -> int:
        self._note(sql, *values)
        return super().change(sql, *values)

    def _note(self, sql: str, *values: object) -> None:
        plan = self.connection.execute(f"explain query plan {sql}", values).fetchall()
        self._plans[sql] = [row["detail"] for row in plan]


class Prying(SqliteStore):
    """Keeps the plan of every statement, of those that write as well."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.plans: dict[str, list[str]] = {}

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await super().read(self._planned(work))

    async def write(self, work: Callable[[Transaction], T]) -> T:
        return await super().write(self._planned(work))

    def _planned(self, work: Callable[[Transaction], T]) -> Callable[[Transaction], T]:
        def planned(tx: Transaction) -> T:
            assert isinstance(tx, SqliteTransaction)
            made = Planning(tx.connection, self.plans)
            value = work(made)
            tx.changes += made.changes
            return value

        return planned


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions([HOOK], NOW)
    yield store
    await store.close()


async def story(store: SqliteStore, *, at: float = NOW, number: int = 0) -> Task:
    """A task that has ended, with a callback, a check, and an action that is done."""
    (task,) = await end_tasks(store, 1, [HOOK], at)
    body = b"{" + b" " * 100 + str(number).encode() + b"}"
    digest = hashlib.sha256(body).digest()
    new = NewDelivery(task=task.id, purpose=Purpose.SUBMIT, body=body, digest=digest, size=len(body), claim=None)
    assert await store.record_delivery(new, at) is not None
    await store.add_check(task.id, NewCheck(kind=CheckKind.QUERY, at=at, seconds=0.1, ok=True, summary="SUCCESS"))
    claimed = await store.claim_action("hook", at, 60)
    assert claimed is not None
    await store.settle_action(claimed, Settlement(outcome="done", detail={"said": "ok"}), at)
    return task


async def prune(
    store: SqliteStore, kept: retention.Keep, now: float = LATER, *, dry_run: bool = False
) -> dict[str, int]:
    """Everything that goes now; how many rows by kind."""
    run = Pruning(kept, now, dry_run=dry_run)
    while await run.step(store):
        pass
    return {kind: gone.rows for kind, gone in run.gone.items() if gone.rows}


async def count(store: SqliteStore, table: str) -> int:
    number: int = await store.read(lambda tx: tx.value(f"select count(*) as value from {table}"))
    return number


async def change(store: SqliteStore, sql: str, *values: object) -> None:
    def work(tx: Transaction) -> None:
        tx.change(sql, *values)

    await store.write(work)


async def label(store: SqliteStore, task: Task, value: str) -> None:
    columns = "name, value, kind, state, created_at, task, target"
    await change(
        store, f"insert into task_labels ({columns}) values ('n', ?, 'model', 'succeeded', 1, ?, 'x')", value, task.key
    )
    await change(store, "insert or ignore into labels (name, value, folded) values ('n', ?, '')", value)


async def counts_differ(store: SqliteStore) -> list[object]:
    """Kept counts that are not what a count of the table gives, and rows that point nowhere."""

    def look(tx: Transaction) -> list[object]:
        kept = {(row["name"], row["state"]): row["n"] for row in tx.all("select * from action_counts where n <> 0")}
        rows = tx.all("select name, state, count(*) as n from actions group by name, state")
        true = {(row["name"], row["state"]): row["n"] for row in rows}
        bodies = tx.all("select key from tasks t where bodies <> (select count(*) from deliveries where task = t.key)")
        labels = tx.all("select name, value from labels except select name, value from task_labels")
        targets = tx.all("select target from targets except select target from tasks")
        parked = tx.all(
            "select id from replays r where parked <> (select total(parked) from actions where replay = r.id)"
        )
        nowhere = tx.all("pragma foreign_key_check")
        found: list[object] = [tuple(row) for row in (*bodies, *labels, *targets, *parked, *nowhere)]
        return found if kept == true else [kept, true, *found]

    return await store.read(look)


# ---------------------------------------------------------------- what goes


async def test_a_body_goes_and_its_delivery_stays_with_size_and_time(store: SqliteStore) -> None:
    task = await story(store)
    (before,) = (await store.deliveries(Filter(task=task.id))).items
    assert await prune(store, keep(bodies=30)) == {"bodies": 1}
    assert (await store.deliveries(Filter(task=task.id))).items == [before]
    with pytest.raises(Refused, match=r"removed.*keep\.bodies"):
        await store.delivery_body(before.id)
    assert await prune(store, keep(bodies=30)) == {}


async def test_a_delivery_whose_bytes_went_is_not_read_anew(store: SqliteStore) -> None:
    task = await story(store)
    await prune(store, keep(bodies=30))
    order = ReplayBody(mode=ReplayMode.REPROCESS, filter=Selection(task=task.id))
    matched, _ = await replay(store, [HOOK], order, {}, LATER)
    assert matched == 0
    assert [each.problem for each in (await store.deliveries(Filter())).items] == [None]


async def test_with_the_defaults_only_bodies_and_checks_go_and_only_after_thirty_days(store: SqliteStore) -> None:
    await story(store)
    assert await prune(store, Settings().keep, NOW + 29 * DAY) == {}
    assert await prune(store, Settings().keep) == {"bodies": 1, "checks": 1}


async def test_a_story_goes_whole_and_the_counts_follow(store: SqliteStore) -> None:
    old = [await story(store, number=number) for number in range(3)]
    young = await story(store, at=LATER - DAY, number=9)
    for number, task in enumerate((*old, young)):
        await label(store, task, str(number // 2))
        await change(store, "insert into files (task, result, path, sha256, size) values (?, 0, 'a', '', 1)", task.key)
    gone = await prune(store, keep(tasks=30))
    assert gone == {"bodies": 3, "checks": 3, "deliveries": 3, "events": 3, "tasks": 3}
    tables = ("tasks", "events", "deliveries", "checks", "actions", "attempts", "files", "task_labels", "labels")
    assert {table: await count(store, table) for table in tables} == dict.fromkeys(tables, 1)
    assert await store.task(young.id) is not None
    assert await counts_differ(store) == []


async def test_a_task_whose_event_went_is_not_recorded_or_replayed_anew(store: SqliteStore) -> None:
    task = await story(store)
    assert await prune(store, keep(events=30)) == {"events": 1}
    for mode in (ReplayMode.AGAIN, ReplayMode.MISSING, ReplayMode.RETRY):
        assert (await replay(store, [HOOK], ReplayBody(mode=mode), {}, LATER))[0] == 0
    found = await store.task(task.id)
    assert found is not None
    assert found.state == "succeeded"
    assert (await store.events(Filter(task=task.id))).items == []
    assert await counts_differ(store) == []


async def test_attempts_deliveries_closed_alerts_and_replays_without_actions_go(store: SqliteStore) -> None:
    await story(store)
    await replay(store, [HOOK], ReplayBody(filter=Selection(name="nobody")), {}, NOW)
    await store.raise_alert(AlertKind.DISK_LOW, "files", "full", NOW)
    await store.clear_alert(AlertKind.DISK_LOW, "files", NOW)
    await store.raise_alert(AlertKind.DISK_LOW, "files", "full again", NOW)
    kept = keep(attempts=30, deliveries=30, closed_alerts=30, replays=30)
    assert await prune(store, kept) == {"bodies": 1, "attempts": 1, "deliveries": 1, "closed_alerts": 1, "replays": 1}
    assert [each.closed_at for each in (await store.alerts(Filter())).items] == [None]
    assert await counts_differ(store) == []


async def test_a_replay_tells_what_it_did_after_its_actions_went(store: SqliteStore) -> None:
    tasks = [await story(store, number=number) for number in range(2)]
    order = ReplayBody(mode=ReplayMode.RETRY, filter=Selection(action_state=("done",)))
    _, made = await replay(store, [HOOK], order, {}, NOW)
    assert made is not None
    claimed = await store.claim_action("hook", NOW, 60)
    assert claimed is not None
    await store.settle_action(claimed, Settlement(outcome="done"), NOW)
    await store.cancel_replay(made.id, NOW)
    before = await go_on(store, [HOOK], made.id, NOW)
    await prune(store, keep(tasks=30))
    assert [await store.task(task.id) for task in tasks] == [None, None]
    assert await store.replay(made.id) == before
    assert await counts_differ(store) == []


async def test_a_replay_that_is_not_through_stays(store: SqliteStore) -> None:
    await story(store)
    begun = await store.begin_replay(ReplayMode.AGAIN, Selection(name="nobody"), {}, None, NOW)
    await prune(store, keep(replays=30))
    assert await store.replay(begun.id) is not None
    await go_on(store, [HOOK], begun.id, NOW)
    await prune(store, keep(replays=30))
    assert await store.replay(begun.id) is None


async def test_a_key_whose_task_went_orders_a_new_task(house: House) -> None:
    async def order() -> dict[str, Any]:
        body = {"target": MODEL, "input": {"prompt": "x"}, "validate": False}
        answer = await house.api.post("/tasks", json=body, headers={"Idempotency-Key": "order-7"})
        found: dict[str, Any] = answer.json()
        return found

    first = await order()
    await house.advance(300)
    house.clock.now += 31 * DAY
    assert (await house.api.post("/prune")).json()["state"] == "done"
    assert (await house.api.get(f"/tasks/{first['id']}")).status_code == 404
    assert (await order())["id"] != first["id"]


# ---------------------------------------------------------------- what stays

UNFINISHED: Mapping[str, str] = {
    "its state": "update tasks set state = 'lost'",
    "doubt": "update tasks set state = 'in_doubt'",
    "its end may be denied": "update tasks set settled = 0",
    "it is due": "update tasks set check_at = 1",
    "it is set aside": "update tasks set aside = 1",
    "new links are asked for": "update tasks set refresh = 1",
    "an action is owed": "update actions set state = 'owed', due_at = 1",
    "an action runs": "update actions set state = 'running'",
    "an action ended yesterday": f"update actions set settled_at = {LATER - DAY}",
    "an alert about it": "insert into alerts (kind, subject, message, opened_at, last_at)"
    " select 'event_contradicted', id, '', 1, 1 from tasks",
    "a dead action that is alerted": "update actions set state = 'dead'; insert into alerts"
    " (kind, subject, message, opened_at, last_at) values ('action_dead', 'hook', '', 1, 1)",
}


@pytest.mark.parametrize("why", UNFINISHED)
async def test_nothing_goes_of_a_task_with_unfinished_work(store: SqliteStore, why: str) -> None:
    await story(store)
    for statement in UNFINISHED[why].split("; "):
        await change(store, statement)
    assert await prune(store, ALL_GO, dry_run=True) == {}
    assert await prune(store, ALL_GO) == {}


async def test_a_task_stays_while_anything_of_it_is_young(store: SqliteStore) -> None:
    task = await story(store)
    check = NewCheck(kind=CheckKind.QUERY, at=LATER - DAY, seconds=0.1, ok=True, summary="asked by hand")
    await store.add_check(task.id, check)
    gone = await prune(store, keep(tasks=30))
    assert "tasks" not in gone
    assert await store.task(task.id) is not None
    assert await prune(store, keep(tasks=30), LATER + 30 * DAY) == {"checks": 1, "tasks": 1}


async def test_what_was_taken_up_after_it_was_found_stays(store: SqliteStore) -> None:
    await story(store)
    found = (await store.old_rows("events", NOW + 1)).found
    assert len(found) == 1
    await change(store, "update actions set state = 'owed', due_at = 1")
    gone = await store.remove_old("events", NOW + 1, [each.key for each in found], LATER)
    assert (gone.rows, await count(store, "events"), await store.pruned()) == (0, 1, {})


STATES = st.tuples(
    st.sampled_from(["queued", "submitting", "submitted", "in_doubt", "lost", "succeeded", "failed", "rejected"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["owed", "running", "done", "dead", "skipped"]),
    st.booleans(),
    st.sampled_from([1, 29, 31, 90]),
)


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.lists(STATES, min_size=1, max_size=4))
async def test_whatever_the_states_only_old_and_finished_tasks_go(store: SqliteStore, states: list[Any]) -> None:
    await change(store, "update tasks set state = 'lost'")  # what an earlier example has left
    stay: list[str] = []
    go: list[str] = []
    tasks = [await story(store, at=LATER - each[-1] * DAY, number=number) for number, each in enumerate(states)]
    for task, (state, settled, due, action, alerted, age) in zip(tasks, states, strict=True):
        name = f"hook-{task.key}"
        await change(
            store,
            "update tasks set state = ?, settled = ?, check_at = ? where key = ?",
            *(state, int(settled), 1.0 if due else None, task.key),
        )
        await change(store, "update actions set state = 'moving', name = ? where task = ?", name, task.key)
        await change(store, "update actions set state = ? where task = ?", action, task.key)
        if alerted:
            await store.raise_alert(AlertKind.ACTION_DEAD, name, "dead", NOW)
        over = state in ("succeeded", "failed", "rejected") and settled and not due and age > 30
        free = action in ("done", "skipped") or (action == "dead" and not alerted)
        (go if over and free else stay).append(task.id)
    await prune(store, ALL_GO)
    assert [task for task in stay if await store.task(task) is None] == []
    assert [task for task in go if await store.task(task) is not None] == []
    assert await counts_differ(store) == []


# ---------------------------------------------------------------- how it goes


async def test_a_dry_run_counts_what_the_run_then_removes(store: SqliteStore) -> None:
    for number in range(3):
        await story(store, number=number)
    would = await prune(store, ALL_GO, dry_run=True)
    assert await count(store, "tasks") == 3
    assert await store.pruned() == {}
    went = await prune(store, ALL_GO)
    assert would == went
    assert {kind: each.removed for kind, each in (await store.pruned()).items()} == went


async def test_a_run_that_was_cut_off_is_gone_on_with_by_the_next(store: SqliteStore) -> None:
    for number in range(4):
        await story(store, number=number)
    for steps in range(1, 12):
        run = Pruning(ALL_GO, LATER)
        for _ in range(steps):
            await run.step(store)
        assert await counts_differ(store) == []
    assert await prune(store, ALL_GO) == {}
    removed = {kind: each.removed for kind, each in (await store.pruned()).items()}
    assert removed["tasks"] == removed["events"] == removed["checks"] == 4
    assert await count(store, "tasks") == 0


async def test_a_write_removes_a_bounded_number_of_rows_and_bytes(store: SqliteStore) -> None:
    (task,) = await end_tasks(store, 1, [], NOW)
    size = retention.PRUNE_BYTES // 2 + 1
    for number in range(3):
        new = NewDelivery(task=task.id, purpose=Purpose.SUBMIT, body=bytes(size), digest=number.to_bytes(32), size=size)
        await store.record_delivery(new, NOW)
    for number in range(retention.PRUNE_ROWS + 1):
        await store.add_check(task.id, NewCheck(kind=CheckKind.QUERY, at=NOW, seconds=0, ok=True, summary=str(number)))
    run, writes = Pruning(keep(bodies=30, checks=30), LATER), []
    before = {kind: gone.rows for kind, gone in run.gone.items()}
    while await run.step(store):
        after = {kind: gone.rows for kind, gone in run.gone.items()}
        writes += [after[kind] - before[kind] for kind in after if after[kind] != before[kind]]
        before = after
    assert writes == [1, 1, 1, retention.PRUNE_ROWS]
    assert run.gone["checks"].rows == retention.PRUNE_ROWS + 1


async def test_no_statement_of_pruning_goes_through_a_table(tmp_path: Path) -> None:
    make(tmp_path / "receiver.db", 2 * retention.PRUNE_WALK)
    store = Prying(tmp_path / "receiver.db")
    await store.open()
    await prune(store, ALL_GO)
    assert set(await store.pruned()) >= KINDS.keys() - {"attempts"}
    assert {line for plan in store.plans.values() for line in plan if line.startswith("SCAN")} <= SMALL
    assert not any("t USING INDEX" in line for plan in store.plans.values() for line in plan)
    assert any("deliveries_with_body" in line for plan in store.plans.values() for line in plan)
    await store.close()


# ---------------------------------------------------------------- over HTTP, and by the hour


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(tmp_path, toml="[keep]\ntasks = 30\n") as house:
        yield house


async def pruned(house: House, method: str = "POST", **body: object) -> PruneView:
    answer = await house.api.request(method, "/prune", json=body or None)
    assert answer.status_code == 200, answer.text
    return msgspec.json.decode(answer.content, type=PruneView)


def rows_of(view: PruneView) -> dict[str, int]:
    return {each.kind: each.rows for each in view.items if each.rows}


async def test_pruning_over_http_tells_what_would_go_what_went_and_what_ever_went(house: House) -> None:
    await house.submit()
    await house.advance(300)
    assert (await pruned(house, "GET")).state == "idle"
    house.clock.now += 31 * DAY
    would = await pruned(house, dry_run=True)
    assert (would.state, would.dry_run, rows_of(would)["tasks"]) == ("done", True, 1)
    went = await pruned(house)
    assert rows_of(went) == rows_of(would)
    assert {each.kind: each.rows_ever for each in went.items if each.rows_ever} == rows_of(went)
    assert all(each.first_at for each in went.items if each.rows)
    assert rows_of(await pruned(house)) == {}


@pytest.mark.parametrize(("body", "path"), [({"dry_run": "yes"}, "dry_run"), ({"dryrun": True}, "dryrun")])
async def test_an_order_to_prune_that_cannot_be_read_prunes_nothing(house: House, body: object, path: str) -> None:
    answer = await house.api.post("/prune", json=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["details"][0]["path"] == path
    assert (await pruned(house, "GET")).state == "idle"


async def test_the_server_prunes_by_itself_once_an_hour(house: House) -> None:
    pruner, first = house.service.pruner, await house.submit()
    await house.advance(300)
    house.clock.now += 31 * DAY
    assert await pruner.due() <= house.clock()
    await pruner.step()
    assert (await house.api.get(f"/tasks/{first}")).status_code == 404
    assert await pruner.due() == house.clock() + retention.PRUNE_EVERY
    house.clock.now -= 400 * DAY
    assert await pruner.due() <= house.clock() + retention.PRUNE_EVERY


async def test_a_run_that_is_stopped_says_so_and_leaves_the_rest(house: House) -> None:
    await house.submit()
    await house.advance(300)
    house.clock.now += 31 * DAY
    run = await house.service.pruner.begin()
    with pytest.raises(Refused, match="receiver prune stop"):
        await house.service.pruner.begin(dry_run=True)
    assert await house.service.pruner.begin() is run
    stopped = await pruned(house, "DELETE")
    await run
    assert stopped.state in ("running", "stopped")
    assert house.service.pruner.state == "stopped"
    assert rows_of(await pruned(house, "GET")) == {}
    assert rows_of(await pruned(house))["tasks"] == 1


async def test_a_body_that_was_removed_is_answered_410_with_the_setting(house: House) -> None:
    await house.submit()
    await house.advance(300)
    house.clock.now += 31 * DAY
    await prune(house.store, keep(bodies=30), house.clock())  # type: ignore[arg-type]
    answer = await house.api.get("/deliveries/1/body")
    assert (answer.status_code, answer.json()["error"]["code"]) == (410, "body_removed")


@pytest.mark.parametrize("given", ["0.5", "-1", "nan", "'30d'"])
async def test_days_below_one_are_refused_for_a_task_may_have_its_links_yet(tmp_path: Path, given: str) -> None:
    from test_settings import problems

    (problem,) = problems(tmp_path, f"[keep]\ntasks = {given}\n")
    assert re.search(r"keep\.tasks: expected (0 \(for ever\), or days, at least 1|a number)", problem)
