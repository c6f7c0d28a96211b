"""The ledger in PostgreSQL: the same schema as in a file, and what only a server brings with it."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from pooler import Pooler
from postgres import END_OURS, execute, new_ledger
from psycopg.rows import dict_row
from uuid_utils import uuid7

from receiver.model.entries import NewTask
from receiver.model.errors import DatabaseInUse, Failed, Refused, SettingsError
from receiver.model.records import Filter, Kind
from receiver.store import open_store
from receiver.store.postgres.migrations import STEPS
from receiver.store.postgres.store import PostgresStore
from receiver.store.sqlite.database import connect as connect_file

pytestmark = pytest.mark.slow

NOW = 1_790_000_000.0
TYPES = {"INTEGER": "bigint", "REAL": "double precision", "TEXT": "text", "BLOB": "bytea", "ANY": "double precision"}


@pytest.fixture
def url() -> str:
    return new_ledger()


@pytest.fixture
async def store(url: str) -> AsyncIterator[PostgresStore]:
    store = PostgresStore(url)
    await store.open()
    yield store
    await store.close()


def rows(url: str, sql: str) -> list[dict[str, object]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(sql.encode()).fetchall()


def order(**given: object) -> NewTask:
    told = {"id": str(uuid7()), "kind": Kind.MODEL, "target": "m", "input": {}, "labels": {}, "digest": b"x", **given}
    return NewTask(**told)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the schema


def columns_of_a_file(path: Path) -> set[tuple[str, str, str, bool]]:
    """Table, column, its type in PostgreSQL, and whether it may be null."""
    connection = connect_file(path)
    tables = connection.execute("select name from sqlite_master where type = 'table' and name not like '%sqlite%'")
    found = set()
    for (table,) in tables.fetchall():
        for row in connection.execute("select * from pragma_table_info(?)", (table,)):
            is_null = not row["notnull"] and not row["pk"]
            found.add((table, row["name"], TYPES[row["type"].upper()], is_null))
    connection.close()
    return found


def indexes_of_a_file(path: Path) -> set[str]:
    connection = connect_file(path)
    names = connection.execute("select name from sqlite_master where type = 'index' and name not like '%sqlite%'")
    found = {name for (name,) in names}
    connection.close()
    return found


async def test_a_file_and_a_server_have_the_same_tables_columns_and_indexes(
    store: PostgresStore, url: str, tmp_path: Path
) -> None:
    found = rows(
        url,
        """
        select table_name, column_name, data_type, is_nullable = 'YES' as is_null from information_schema.columns
        where table_schema = current_schema() and table_name not in ('receiver_migrations', 'probe')
        """,
    )
    assert {tuple(row.values()) for row in found} == columns_of_a_file(tmp_path / "r.db")
    named = "select indexname as name from pg_indexes where schemaname = current_schema()"
    named += " and indexname !~ '_(pkey|key)$'"
    assert {row["name"] for row in rows(url, named)} == indexes_of_a_file(tmp_path / "r.db")


async def test_every_text_is_compared_byte_by_byte(store: PostgresStore, url: str) -> None:
    other = """
    select table_name, column_name from information_schema.columns
    where table_schema = current_schema() and data_type = 'text' and collation_name is distinct from 'C'
    """
    assert rows(url, other) == []


async def test_opening_again_changes_nothing_and_loses_no_row(store: PostgresStore, url: str) -> None:
    await store.add_task(order(), NOW)
    await store.close()
    applied = rows(url, "select * from receiver_migrations")
    assert [row["name"] for row in applied] == list(STEPS)
    again = PostgresStore(url)
    await again.open()
    assert len((await again.tasks(Filter())).items) == 1
    await again.close()
    assert rows(url, "select * from receiver_migrations") == applied


async def test_a_schema_with_tables_of_another_program_is_left_alone(url: str) -> None:
    await execute(url, "create table tasks (theirs text)")
    with pytest.raises(SettingsError, match=r"another program.*a schema of its own"):
        await open_store(url).open()
    assert rows(url, "select * from tasks") == []
    assert rows(url, "select to_regclass('receiver_migrations') as made") == [{"made": None}]


# ---------------------------------------------------------------- what must be so


async def test_a_pooler_that_gives_one_session_to_many_is_refused_with_the_remedy(url: str) -> None:
    port = int(re.findall(r":(\d+)/", url)[0])
    async with Pooler(port).running() as pooler:
        store = open_store(url.replace(f":{port}/", f":{pooler.port}/"))
        with pytest.raises(SettingsError, match=r"pooler in transaction mode.*session mode"):
            await store.open()
    direct = open_store(url)
    await direct.open(patience=0.0)
    await direct.close()


async def test_one_server_has_a_ledger_and_the_next_one_waits_for_its_end(store: PostgresStore, url: str) -> None:
    second, is_told = open_store(url), asyncio.Event()
    with pytest.raises(DatabaseInUse, match="another process is serving this database"):
        await second.open(patience=0.0)
    waiting = asyncio.create_task(second.open(waiting=lambda why: is_told.set()))
    await is_told.wait()
    await store.close()
    await waiting
    await second.close()


async def test_a_server_that_was_cut_off_has_its_ledger_back_at_once(store: PostgresStore, url: str) -> None:
    await store.add_task(order(), NOW)
    await execute(url, END_OURS)
    await store.add_task(order(), NOW)
    assert len((await store.tasks(Filter())).items) == 2


async def test_a_schema_that_is_not_there_is_said_with_the_remedy(url: str) -> None:
    with pytest.raises(SettingsError, match="create schema"):
        await open_store(re.sub("ledger_[0-9_]+", "nowhere", url)).open()


async def test_a_database_that_is_not_utf8_is_refused(url: str) -> None:
    name = f"latin_{uuid7().hex}"
    await execute(url, f"create database {name} encoding 'LATIN1' locale 'C' template template0")
    other = re.sub(r"(:\d+)/\w+", rf"\1/{name}", url).partition("?")[0]
    with pytest.raises(SettingsError, match="expected a database in UTF8, got LATIN1"):
        await open_store(other).open()
    await execute(url, f"drop database {name}")


async def test_a_server_that_does_not_answer_is_waited_for_and_then_named() -> None:
    told: list[str] = []
    store = open_store("postgresql://somebody:sentinel-word@127.0.0.1:9/ledger")
    with pytest.raises(Failed, match=r"ledger at 127\.0\.0\.1 cannot be used") as failed:
        await store.open(patience=0.5, waiting=told.append)
    assert len(told) == 1
    assert "sentinel-word" not in f"{failed.value} {told}"


async def test_a_url_that_cannot_be_read_is_refused_without_being_shown() -> None:
    with pytest.raises(SettingsError, match="%XX") as refused:
        open_store("postgresql://somebody:sentinel%word@127.0.0.1/ledger")
    assert "sentinel" not in str(refused.value)


async def test_a_database_that_does_not_exist_is_said_at_once(url: str) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        await open_store(re.sub(r"(:\d+)/\w+", r"\1/nowhere", url)).open()


# ---------------------------------------------------------------- the same answers as a file


@pytest.mark.parametrize(
    "labels",
    [{"a": "x"}, {"a\x00b": "1", "a\x00c": "1"}, {"a": "x\x00\x00y"}, {"a": "\\u0000"}, {"": ""}, {"n": "\U0001f600"}],
    ids=repr,
)
async def test_whatever_the_labels_are_the_task_keeps_them(store: PostgresStore, labels: dict[str, str]) -> None:
    assert (await store.add_task(order(labels=labels), NOW)).task.labels == labels
    plain = [pair for pair in labels.items() if "\x00" not in "".join(pair)]
    for pair in plain:
        assert len((await store.tasks(Filter(label=(pair,)))).items) == 1


@pytest.mark.parametrize("text", ["a\x00b", "\x00", "Ä", "ä%_\\", "\U0010ffff", "'; drop table tasks; --"])
async def test_whatever_is_looked_for_is_found_or_not(store: PostgresStore, text: str) -> None:
    await store.add_task(order(target="Ärger/ä", labels={"name": "Ä"}), NOW)
    found = (await store.tasks(Filter(q=text))).items
    assert len(found) == (1 if text == "Ä" else 0)
    assert await store.find_task(text) is None


async def test_a_copy_is_made_by_the_servers_own_tool(store: PostgresStore) -> None:
    with pytest.raises(Refused, match="pg_dump"):
        await store.backup()
