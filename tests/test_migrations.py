"""The schema only grows: a database that an earlier version made is upgraded when it is opened, and loses nothing."""

import sqlite3
from pathlib import Path

import pytest
from house import open_house
from sqlite_utils import Database

from receiver.model.rules import is_fresh
from receiver.store import open_store
from receiver.store.sqlite.database import connect, create_private
from receiver.store.sqlite.migrations import migrations

TASK = "0197b0a2-5f0e-7c61-9d39-0a4f3a7d1c55"
UPLOAD = "upload:" + "a" * 32
ROWS = (
    f"""
    insert into tasks (id, kind, api, target, input, labels, state, created_at, idempotency_key, digest)
    values ('{TASK}', 'model', 'v2', 'a/b', '{{"image": "https://x.test/a.png"}}', '{{"n": "1"}}', 'queued', 1.5, 'k',
      x'00ff')
    """,
    f"""
    insert into uploads (id, name, type, size, sha256, url, file_name, at)
    values ('{UPLOAD}', 'one.png', 'image', 7, '{"a" * 64}', 'https://x.test/a.png', 'openapi/a.png', 1.5)
    """,
    "insert into deliveries (task, purpose, digest, received_at, last_at, size, body)"
    " values (1, 'submit', x'01', 2, 2, 3, x'0aff00')",
    f"insert into events (id, task, state, source, confirmed, at, results, usage, extra)"
    f" values ('{TASK}', 1, 'succeeded', 'query', 1, 3, '[]', '{{}}', '{{}}')",
    "insert into actions (task, event, name, state, created_at) values (1, 1, 'keep-files', 'owed', 3)",
    "insert into secrets (name, value) values ('admin_token', 'kept')",
    "insert into counters (name, value) values ('callbacks_missed', 3)",
)


NEW = ("tallies", "tallied", "task_counts", "audit")


def made_by_the_first_version(path: Path) -> None:
    create_private(path)
    connection = sqlite3.connect(path, isolation_level=None)
    migrations.apply(Database(connection), stop_before="m002_uploads_in_orders")
    for row in ROWS:
        connection.execute(row)
    connection.close()


def content(path: Path) -> dict[str, list[dict[str, object]]]:
    """Every row of every table of ours."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
    found = {
        table: [dict(row) for row in connection.execute(f"select * from {table}")]
        for table in tables
        if not table.startswith(("sqlite_", "_sqlite"))
    }
    connection.close()
    return found


async def test_a_database_of_the_first_version_is_upgraded_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    made_by_the_first_version(path)
    before = content(path)
    assert "uploads" not in before["tasks"][0]
    store = open_store(f"sqlite:///{path}")
    await store.open()
    task = await store.task(TASK)
    known = await store.uploads([UPLOAD])
    assert task is not None
    assert (task.uploads, task.input, task.idempotency_key) == ({}, {"image": "https://x.test/a.png"}, "k")
    assert (known[UPLOAD].name, known[UPLOAD].site) == ("one.png", "")
    assert not is_fresh(known[UPLOAD], 1.5, "https://www.runninghub.ai")
    await store.close()
    after = content(path)
    for row in before["tasks"]:
        row["settled"] = row.pop("confirmed")
        del row["bodies_over"]  # which nothing ever read
    assert after.keys() == before.keys() | {"targets", "labels", "task_labels", "action_counts", "pruned", *NEW}
    for table, rows in before.items():
        assert len(after[table]) == len(rows), table
        assert all(old.items() <= new.items() for old, new in zip(rows, after[table], strict=True)), table
    assert after["targets"] == [{"target": "a/b", "folded": "a/b"}]
    assert [(row["name"], row["value"], row["state"]) for row in after["task_labels"]] == [("n", "1", "queued")]
    assert after["action_counts"] == [{"name": "keep-files", "state": "owed", "n": 1}]
    assert after["task_counts"] == [{"state": "queued", "n": 1}]
    assert after["tallied"] == [{"key": 1, "place": 0, "upto": 1}]


async def test_an_upgraded_database_has_the_schema_of_a_new_one(tmp_path: Path) -> None:
    def schema(path: Path) -> list[tuple[str, ...]]:
        connection = connect(path)
        tables = connection.execute("select name from sqlite_master where type = 'table' order by name").fetchall()
        found = [
            (name, *map(str, column))
            for (name,) in tables
            for column in connection.execute(f"pragma table_xinfo({name})").fetchall()
        ]
        found += [tuple(map(str, row)) for row in connection.execute("select name, tbl_name from sqlite_master")]
        connection.close()
        return sorted(found)

    made_by_the_first_version(tmp_path / "old.db")
    create_private(tmp_path / "new.db")
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


ODD_ROWS = (
    """
    insert into tasks (id, kind, api, target, input, labels, state, created_at, digest)
    values ('odd', 'model', 'v2', 'a/b', '{}', '{"a\\u0000b": "1", "a\\u0000c": "1", "n": null, "o": {}}',
      'submitting', 2, x'00')
    """,
)


async def test_labels_and_submissions_that_nobody_should_have_written_do_not_stop_an_upgrade(tmp_path: Path) -> None:
    path = tmp_path / "receiver.db"
    made_by_the_first_version(path)
    connection = sqlite3.connect(path, isolation_level=None)
    for row in ODD_ROWS:
        connection.execute(row)
    connection.close()
    store = open_store(f"sqlite:///{path}")
    await store.open()
    assert await store.doubt_interrupted(5.0, node="local") == 1
    await store.close()
    connection = sqlite3.connect(path)
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
    connection.close()


def test_an_upgrade_that_is_cut_off_is_begun_anew(tmp_path: Path) -> None:
    """What is half done would fail for ever: a column cannot be added twice."""
    path = tmp_path / "receiver.db"
    made_by_the_first_version(path)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("create table uploads_by_time (a)")  # in the way of the upgrade's last step
    with pytest.raises(sqlite3.OperationalError):
        migrations.apply(Database(connection))
    connection.execute("drop table uploads_by_time")
    connection.close()
    connection = connect(path)
    assert connection.execute("select site from uploads").fetchone()["site"] == ""
    connection.close()


@pytest.mark.story
async def test_an_upgraded_database_goes_on_where_it_was(tmp_path: Path) -> None:
    made_by_the_first_version(tmp_path / "receiver.db")
    async with open_house(tmp_path) as house:
        await house.settle()
        (request,) = [each for each in house.simulator.requests if each.route == "submit"]
        assert request.document["image"] == "https://x.test/a.png"
        assert (await house.task(TASK)).provider_task_id is not None
