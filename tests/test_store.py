"""The store: one owner, one writer with group commit, readers that cannot write, a schema that is made once."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from receiver.model.errors import StoreUnavailable
from receiver.model.records import Filter
from receiver.store import Store, open_store
from receiver.store.sqlite.database import DatabaseInUse, connect, connect_read_only
from receiver.store.sqlite.offline import read_secret, summary
from receiver.store.writer import PROBE_SPACING, QUEUE_CAP, Writer


class Ticks:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'ledger' / 'receiver.db'}")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
async def writer(tmp_path: Path) -> AsyncIterator[tuple[Writer, Ticks]]:
    """A writer on a database of at most 400 pages."""
    ticks = Ticks()

    def small() -> sqlite3.Connection:
        connection = connect(tmp_path / "small.db")
        connection.execute("create table rows (value blob)")
        connection.execute("pragma max_page_count = 400")
        return connection

    writer = Writer(small, monotonic=ticks)
    await writer.open()
    yield writer, ticks
    await writer.close()


def insert(size: int) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: connection.execute("insert into rows values (zeroblob(?))", (size,)).rowcount


def count(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("select count(*) from rows").fetchone()[0]
    return found


async def test_a_job_that_fails_does_not_take_its_batch_with_it(writer: tuple[Writer, Ticks]) -> None:
    write, _ = writer

    def bad(connection: sqlite3.Connection) -> None:
        connection.execute("insert into rows values ('half')")
        raise ValueError("a bug")

    def wrong(connection: sqlite3.Connection) -> None:
        connection.execute("insert into nowhere values (1)")

    jobs: list[Callable[[sqlite3.Connection], object]] = [insert(10), bad, insert(10), wrong, insert(10)]
    results = await asyncio.gather(*(write.run(job) for job in jobs), return_exceptions=True)
    assert [result == 1 for result in results] == [True, False, True, False, True]
    assert isinstance(results[1], ValueError)
    assert isinstance(results[3], sqlite3.OperationalError)
    assert await write.run(count) == 3
    assert write.broken is None


async def test_a_full_disk_in_the_middle_of_a_batch_acknowledges_nothing_that_is_not_there(
    writer: tuple[Writer, Ticks],
) -> None:
    write, _ = writer
    answers = await asyncio.gather(*(write.run(insert(8000)) for _ in range(600)), return_exceptions=True)
    stored = sum(answer == 1 for answer in answers)
    refused = [answer for answer in answers if answer != 1]
    assert stored > 0
    assert refused
    assert all(isinstance(answer, StoreUnavailable) and answer.reason == "disk_full" for answer in refused)
    assert write.broken == "disk_full"


async def test_a_storage_that_failed_is_probed_once_a_second_and_heals(tmp_path: Path) -> None:
    ticks = Ticks()
    opened: list[sqlite3.Connection] = []

    def small() -> sqlite3.Connection:
        connection = connect(tmp_path / "small.db")
        connection.execute("create table rows (value blob)")
        connection.execute("pragma max_page_count = 100")
        opened.append(connection)
        return connection

    def give_room(connection: sqlite3.Connection) -> None:
        connection.execute("pragma max_page_count = 100000")

    write = Writer(small, monotonic=ticks)
    await write.open()
    with pytest.raises(StoreUnavailable):
        await write.run(insert(4_000_000))
    assert write.broken == "disk_full"
    with pytest.raises(StoreUnavailable):
        await write.run(insert(1))
    ticks.now += PROBE_SPACING
    # The probe needs more room than the hundred pages leave only when they are used up; here they are not.
    assert await write.run(insert(1)) == 1
    assert write.broken is None
    await write.run(give_room)
    assert await write.run(insert(4_000_000)) == 1
    await write.close()


async def test_more_writes_than_may_wait_are_refused_and_the_rest_is_committed(writer: tuple[Writer, Ticks]) -> None:
    write, _ = writer
    answers = await asyncio.gather(*(write.run(insert(1)) for _ in range(QUEUE_CAP + 600)), return_exceptions=True)
    busy = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
    assert busy
    assert {error.reason for error in busy} == {"busy"}
    assert await write.run(count) == len(answers) - len(busy)


async def test_a_waiter_that_is_cancelled_does_not_stop_the_writer(writer: tuple[Writer, Ticks]) -> None:
    write, _ = writer
    first = asyncio.create_task(write.run(insert(1)))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await write.run(insert(1)) == 1


async def test_closing_commits_what_waits_and_refuses_what_comes_after(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'receiver.db'}")
    await store.open()
    waiting = [asyncio.create_task(store.secret(f"s{number}")) for number in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert len({await each for each in waiting}) == 50
    with pytest.raises(StoreUnavailable):
        await store.secret("late")
    assert read_secret(tmp_path / "receiver.db", "s7") == await waiting[7]


async def test_one_process_owns_a_file(store: Store) -> None:
    second = open_store(f"sqlite:///{store.path}")
    with pytest.raises(DatabaseInUse):
        await second.open(patience=0.0)


async def test_the_file_is_private_and_its_folder_is_made(store: Store) -> None:
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.with_name("receiver.db-wal").stat().st_mode) == 0o600


async def test_a_reader_cannot_write(store: Store) -> None:
    connection = connect_read_only(store.path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("delete from tasks")
    connection.close()


async def test_what_is_committed_is_durable_by_the_pragmas(store: Store) -> None:
    def pragmas(connection: sqlite3.Connection) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return tuple(connection.execute(f"pragma {name}").fetchone()[0] for name in names)

    connection = connect(store.path.with_name("other.db"))
    assert pragmas(connection) == ("wal", 2, 1)
    connection.close()


async def test_a_secret_is_made_once_and_stays(store: Store) -> None:
    first = await store.secret("admin_token")
    assert await store.secret("admin_token") == first
    assert await store.secret("other") != first
    assert read_secret(store.path, "admin_token") == first
    assert read_secret(store.path, "nobody") is None
    assert read_secret(store.path.with_name("nothing.db"), "admin_token") is None


async def test_a_closed_database_can_be_read_without_a_server(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'receiver.db'}")
    await store.open()
    await store.raise_alert("task_lost", "x", "a test", 1.0)
    await store.close()
    assert summary(tmp_path / "receiver.db")["deliveries kept"] == 0


async def test_opening_again_changes_no_schema_and_loses_no_row(tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple[str, ...]]:
        connection = sqlite3.connect(path)
        rows = connection.execute("select type, name, sql from sqlite_master order by name").fetchall()
        connection.close()
        return rows

    path = tmp_path / "receiver.db"
    store = open_store(f"sqlite:///{path}")
    await store.open()
    token = await store.secret("admin_token")
    await store.close()
    before = schema(path)
    await store_again(path, token)
    assert schema(path) == before


async def store_again(path: Path, token: str) -> None:
    store = open_store(f"sqlite:///{path}")
    await store.open()
    assert await store.secret("admin_token") == token
    await store.close()


async def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "receiver.db").write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    store = open_store(f"sqlite:///{tmp_path / 'receiver.db'}")
    with pytest.raises(sqlite3.DatabaseError, match="not a database"):
        await store.open()


async def test_an_alert_is_one_row_however_often_it_is_raised(store: Store) -> None:
    for now in (1.0, 2.0, 3.0):
        await store.raise_alert("provider_unreachable", "runninghub", f"at {now}", now)
    (alert,) = (await store.alerts(Filter())).items
    assert (alert.count, alert.opened_at, alert.last_at, alert.message) == (3, 1.0, 3.0, "at 3.0")
    await store.clear_alert("provider_unreachable", "runninghub", 4.0)
    await store.raise_alert("provider_unreachable", "runninghub", "again", 5.0)
    assert [each.closed_at for each in (await store.alerts(Filter())).items] == [None, 4.0]
