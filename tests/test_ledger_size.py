"""What the one writer works for an event and for an action, however long the ledger: counted in steps of SQLite."""

import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from counting import Counting
from ledgers import end_tasks
from long_ledger import NOW as MADE
from long_ledger import filters, make
from msgspec.structs import replace

from receiver.actions.settings import HttpDefinition
from receiver.model.entries import Settlement
from receiver.model.records import End, Filter
from receiver.server.definitions import KEEP_FILES
from receiver.store.ledger.pages import write_cursor
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.database import connect
from receiver.store.sqlite.engine import SqliteTransaction

pytestmark = pytest.mark.slow

T = TypeVar("T")
NOW = 1_790_000_000.0
ROWS = 20_000
MOST = 10_000
"""Steps of SQLite's virtual machine for one verb; to go through all rows takes a hundred thousand and more."""
HOOK = HttpDefinition(name="hook", url="http://127.0.0.1:9/", timeout=30, on=(End.SUCCEEDED,))
SICK = HttpDefinition(name="sick", url="http://127.0.0.1:9/", timeout=30, on=(End.FAILED,))
DEFINITIONS = (KEEP_FILES, HOOK, SICK)
LONG = f"""
with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS})
insert into tasks (id, kind, api, target, input, labels, state, created_at, settled, digest)
  select 'task-' || i, 'model', 'v2', 'm', '{{}}', '{{}}', 'succeeded', {NOW}, 1, zeroblob(1) from n;
insert into events (id, task, state, source, confirmed, at, results, usage, extra)
  select 'event-' || key, key, 'succeeded', 'query', 1, {NOW}, '[]', '{{}}', '{{}}' from tasks;
insert into actions (task, event, name, state, due_at, created_at)
  select task, key, 'keep-files', 'owed', {NOW}, {NOW} from events;
insert into actions (task, event, name, state, due_at, created_at)
  select task, key, 'hook', 'owed', {NOW} + 1000, {NOW} from events;
insert into actions (task, event, name, state, created_at) select task, key, 'sick', 'dead', {NOW} from events;
"""


@pytest.fixture
async def long(tmp_path: Path) -> AsyncIterator[Counting]:
    """Owes a download that is due and a hook that is not for each task, and has as many dead actions."""
    connection = connect(tmp_path / "receiver.db")
    connection.executescript(LONG)
    connection.close()
    store = Counting(tmp_path / "receiver.db")
    await store.open()
    await store.sync_definitions(DEFINITIONS, NOW)
    store.most = 0
    yield store
    await store.close()


async def test_recording_an_event_does_not_go_through_what_is_owed(long: Counting) -> None:
    await end_tasks(long, 1, DEFINITIONS, NOW)
    assert 0 < long.most < MOST


@pytest.mark.parametrize("outcome", ["done", "retry", "dead"])
@pytest.mark.parametrize(("name", "now"), [("keep-files", NOW), ("hook", NOW + 2000)])
async def test_claiming_and_settling_do_not_go_through_what_is_owed_or_dead(
    long: Counting, name: str, now: float, outcome: str
) -> None:
    claimed = await long.claim_action(name, now, 60)
    assert claimed is not None
    assert await long.renew_lease(claimed, now + 60)
    assert await long.settle_action(claimed, Settlement(outcome=outcome, due_at=now + 9, reason="because"), now)
    assert 0 < long.most < MOST


@pytest.mark.parametrize(("name", "now"), [("keep-files", NOW - 1), ("hook", NOW)])
async def test_looking_for_what_is_not_due_yet_does_not_go_through_it(long: Counting, name: str, now: float) -> None:
    assert await long.claim_action(name, now, 60) is None
    due = await long.next_action_at(name, now)
    assert due is not None
    assert due > now
    assert long.most < MOST


async def test_skipping_and_freeing_do_not_go_through_what_is_owed(long: Counting) -> None:
    claimed = await long.claim_action("keep-files", NOW, 60)
    assert claimed is not None
    assert await long.free_expired_leases(NOW + 61, {"keep-files": 9}) == 1
    assert await long.skip_action(claimed.action.id, "by hand", NOW)
    assert 0 < long.most < MOST


async def test_of_many_downloads_that_are_due_the_first_to_expire_is_claimed(long: Counting) -> None:
    first = [await long.claim_action("keep-files", NOW, 60) for _ in range(3)]
    assert [claimed and claimed.event.id for claimed in first] == ["event-1", "event-2", "event-3"]


# ---------------------------------------------------------------- lists


class Planned(SqliteTransaction):
    """Notes how SQLite goes about each statement before it runs it."""

    def __init__(self, connection: sqlite3.Connection, plans: dict[str, list[str]]) -> None:
        super().__init__(connection)
        self.plans = plans

    def all(self, sql: str, *values: object) -> list[Any]:
        if sql not in self.plans:
            plan = self.connection.execute(f"explain query plan {sql}", values).fetchall()
            self.plans[sql] = [row["detail"] for row in plan]
        return super().all(sql, *values)

    def one(self, sql: str, *values: object) -> Any:
        self.all(sql, *values)
        return super().one(sql, *values)


class Listing(Counting):
    """Keeps the plan of every statement that reads."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.plans: dict[str, list[str]] = {}

    async def read(self, work: Callable[[Transaction], T]) -> T:
        def planned(tx: Transaction) -> T:
            assert isinstance(tx, SqliteTransaction)
            return work(Planned(tx.connection, self.plans))

        return await super().read(planned)


@pytest.fixture(scope="module")
def long_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "receiver.db"
    make(path, LONG_LISTS)
    return path


@pytest.fixture
async def lists(long_file: Path) -> AsyncIterator[Listing]:
    store = Listing(long_file)
    await store.open()
    yield store
    await store.close()


BIG = ("tasks", "actions", "deliveries", "events", "checks", "task_labels", "attempts", "audit")
FIRST_FIFTY = re.compile(r"SCAN \w+ USING (COVERING )?INDEX \w+$")
"""Walking an index in its own order for a page's worth of rows; whatever is walked whole shows in the steps."""
LONG_LISTS = 40_000
INDEXED, WALKED = 60_000, 300_000
"""Steps for a page that indexes answer, and for one in which a bounded number of rows is looked at: `q`, two labels, a
target with wildcards, the label of an action. It takes 160,000 to look at the target of every task, and 600,000 to look
into its labels."""


def scans(plans: Mapping[str, list[str]]) -> list[str]:
    """Statements that go through a big table, by its name or by its letter in a join."""
    return [
        f"{line}: {' '.join(sql.split())}"
        for sql, plan in plans.items()
        for line in plan
        if line.startswith("SCAN") and line.split()[1] in {*BIG, *"tade"} and not FIRST_FIFTY.match(line)
    ]


def is_walked(listed: str, wanted: Filter) -> bool:
    """Whether a page looks at a bounded number of rows, for no index answers the filter."""
    several = len(wanted.label) > 1 or bool(wanted.label and listed == "actions")
    return bool(wanted.q) or several or listed == "alerts" or "*" in (wanted.target or "")


async def test_no_filter_of_any_list_goes_through_a_table(lists: Listing) -> None:
    dear: dict[str, int] = {}
    for listed, wanted in filters(LONG_LISTS):
        lists.most = 0
        await getattr(lists, listed)(wanted)
        if lists.most > (WALKED if is_walked(listed, wanted) else INDEXED):
            dear[f"{listed} {wanted}"] = lists.most
    assert scans(lists.plans) == []
    assert dear == {}
    assert len(lists.plans) > 50


@pytest.mark.parametrize("way", ["before", "after"])
async def test_no_filter_of_any_list_goes_through_a_table_to_come_to_a_cursor(lists: Listing, way: str) -> None:
    dear: dict[str, int] = {}
    middle = write_cursor((MADE + LONG_LISTS // 2, LONG_LISTS // 2))
    for listed, wanted in filters(LONG_LISTS):
        lists.most = 0
        await getattr(lists, listed)(replace(wanted, **{way: middle}))
        if lists.most > (WALKED if is_walked(listed, wanted) else INDEXED):
            dear[f"{listed} {wanted}"] = lists.most
    assert scans(lists.plans) == []
    assert dear == {}


async def test_counts_are_read_and_not_counted(lists: Listing) -> None:
    lists.most = 0
    (_, shop) = await lists.definition_states()
    assert shop.counts["owed"] == LONG_LISTS // 100 - 20
    (replay,) = [each for each in (await lists.replays(Filter(limit=500))).items if each.id == 1]
    assert replay.state == "running"
    assert lists.most < MOST
    assert scans(lists.plans) == []


async def test_a_plan_that_goes_through_a_table_is_found(lists: Listing) -> None:
    await lists.read(lambda tx: tx.all("select key from tasks where again_of = 'x'"))
    assert [line.partition(":")[0] for line in scans(lists.plans)] == ["SCAN tasks"]
