"""What the one writer works for an event and for an action, however long the ledger: counted in steps of SQLite."""

import sqlite3
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from ledgers import end_tasks

from receiver.actions.http_settings import HttpDefinition
from receiver.model.entries import Settlement
from receiver.model.records import End
from receiver.server.definitions import KEEP_FILES
from receiver.store.sqlite.database import connect
from receiver.store.sqlite.store import SqliteStore

pytestmark = pytest.mark.slow

T = TypeVar("T")
NOW = 1_790_000_000.0
ROWS = 20_000
GRAIN = 100
MOST = 10_000
"""Steps of SQLite's virtual machine for one verb; to go through all rows takes a hundred thousand and more."""
HOOK = HttpDefinition(name="hook", url="http://127.0.0.1:9/", timeout=30, on=(End.SUCCEEDED,))
SICK = HttpDefinition(name="sick", url="http://127.0.0.1:9/", timeout=30, on=(End.FAILED,))
DEFINITIONS = (KEEP_FILES, HOOK, SICK)
LONG = f"""
with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS})
insert into tasks (id, kind, api, target, input, labels, state, created_at, confirmed, digest)
  select 'task-' || i, 'model', 'v2', 'm', '{{}}', '{{}}', 'succeeded', {NOW}, 1, zeroblob(1) from n;
insert into events (id, task, state, source, confirmed, at, results, usage, extra)
  select 'event-' || key, key, 'succeeded', 'query', 1, {NOW}, '[]', '{{}}', '{{}}' from tasks;
insert into actions (task, event, name, state, due_at, created_at)
  select task, key, 'keep-files', 'owed', {NOW}, {NOW} from events;
insert into actions (task, event, name, state, due_at, created_at)
  select task, key, 'hook', 'owed', {NOW} + 1000, {NOW} from events;
insert into actions (task, event, name, state, created_at) select task, key, 'sick', 'dead', {NOW} from events;
"""


class Counting(SqliteStore):
    """`most` is what the dearest verb took since it was set to 0."""

    most = 0

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await super()._write(self._counted(work))

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await super()._read(self._counted(work))

    def _counted(self, work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
        def counted(connection: sqlite3.Connection) -> T:
            steps = 0

            def count() -> None:
                nonlocal steps
                steps += GRAIN

            connection.set_progress_handler(count, GRAIN)
            try:
                return work(connection)
            finally:
                connection.set_progress_handler(None, 0)
                self.most = max(self.most, steps)

        return counted


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
