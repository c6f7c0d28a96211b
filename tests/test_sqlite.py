"""The ledger in a SQLite file: one owner, a private file, readers that cannot write, a schema that is made once."""

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from uuid_utils import uuid7

from receiver.model.entries import NewTask
from receiver.model.errors import DatabaseInUse, StoreUnavailable
from receiver.model.records import AlertKind, Kind
from receiver.store import open_store
from receiver.store.sqlite.database import connect, connect_read_only
from receiver.store.sqlite.offline import read_secret, summary
from receiver.store.sqlite.store import SqliteStore


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "ledger" / "receiver.db")
    await store.open()
    yield store
    await store.close()


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


async def test_one_process_owns_a_file(store: SqliteStore) -> None:
    second = open_store(f"sqlite:///{store.path}")
    with pytest.raises(DatabaseInUse):
        await second.open(patience=0.0)


async def test_the_file_is_private_and_its_folder_is_made(store: SqliteStore) -> None:
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(store.path.with_name("receiver.db-wal").stat().st_mode) == 0o600


async def test_a_reader_cannot_write(store: SqliteStore) -> None:
    connection = connect_read_only(store.path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        connection.execute("delete from tasks")
    connection.close()


async def test_what_is_committed_is_durable_by_the_pragmas(store: SqliteStore) -> None:
    def pragmas(connection: sqlite3.Connection) -> tuple[object, ...]:
        names = ("journal_mode", "synchronous", "foreign_keys")
        return tuple(connection.execute(f"pragma {name}").fetchone()[0] for name in names)

    connection = connect(store.path.with_name("other.db"))
    assert pragmas(connection) == ("wal", 2, 1)
    connection.close()


async def test_a_secret_is_made_once_and_stays(store: SqliteStore) -> None:
    first = await store.secret("admin_token")
    assert await store.secret("admin_token") == first
    assert await store.secret("other") != first
    assert read_secret(store.path, "admin_token") == first
    assert read_secret(store.path, "nobody") is None
    assert read_secret(store.path.with_name("nothing.db"), "admin_token") is None


async def test_a_closed_database_can_be_read_without_a_server(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'receiver.db'}")
    await store.open()
    await store.raise_alert(AlertKind.TASK_LOST, "x", "a test", 1.0)
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


@pytest.mark.parametrize(
    "labels", [{"a": "x"}, {"a\x00b": "1", "a\x00c": "1"}, {"a": "x\x00y"}, {"": ""}, {"name": "\U0001f600"}], ids=repr
)
async def test_whatever_the_labels_are_the_file_is_sound(store: SqliteStore, labels: dict[str, str]) -> None:
    order = NewTask(id=str(uuid7()), kind=Kind.MODEL, target="m", input={}, labels=labels, digest=b"")
    assert (await store.add_task(order, 1.0)).task.labels == labels
    assert await store.read(lambda tx: [row[0] for row in tx.all("pragma integrity_check")]) == ["ok"]
