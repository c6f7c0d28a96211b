"""Real servers whose file is taken away, shared, locked, copied over and put back: no promise is made in vain."""

import asyncio
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from servers import (
    SERVE,
    Answer,
    Ordered,
    Server,
    indiscretions,
    is_sound,
    kept,
    launched,
    prepared,
    request,
    rows,
    running,
    success,
)

from receiver.model.errors import DatabaseInUse
from receiver.store import open_store

pytestmark = pytest.mark.slow

RECEIVER = (sys.executable, "-m", "receiver")
AT_ONCE = 1.0
"""Seconds for an answer that waits for nobody."""


async def post(server: Server, task: Ordered, number: int) -> Answer:
    return await server.ask(request("POST", task.path, success(task, number)))


async def is_told(server: Server, *reasons: str) -> None:
    """Asks for readiness until it says that, which it must soon."""
    found: object = None
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        found = msgspec.json.decode((await server.get("/readyz")).body)["reasons"]
        if found == list(reasons):
            return
    raise AssertionError(found)


async def says(directory: Path, *words: str, code: int = 0) -> str:
    """What a command prints, on either stream."""
    async with launched(directory, argv=(*RECEIVER, *words)) as command:
        assert await command.ended() == code, command.err
        return command.out + command.err


@asynccontextmanager
async def serving(directory: Path, tasks: int = 1) -> AsyncIterator[tuple[Path, list[Ordered], Server]]:
    database, ordered = await prepared(directory, tasks)
    async with running(directory) as server:
        yield database, ordered, server
    assert indiscretions(server, ordered) == []


def removed(path: Path) -> None:
    path.unlink()


def moved(path: Path) -> None:
    path.rename(path.with_name("away.db"))


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("other.db"))
    path.with_name("other.db").replace(path)


@pytest.mark.parametrize("happens", [removed, moved, replaced])
async def test_a_callback_is_not_taken_when_the_file_is_gone(tmp_path: Path, happens: Callable[[Path], None]) -> None:
    async with serving(tmp_path) as (database, tasks, server):
        assert (await post(server, tasks[0], 1)).status == 200
        happens(database)
        await is_told(server, "database_gone")
        answer = await post(server, tasks[0], 2)
        assert (answer.status, answer.reason, int(answer.headers["retry-after"]) > 0) == (503, "database_gone", True)
        if happens is moved:
            database.with_name("away.db").rename(database)
            await is_told(server)
            assert (await post(server, tasks[0], 3)).status == 200
            assert len(kept(database)) == 2
        await server.stop()


async def test_one_file_has_one_server_under_whatever_name_and_with_whatever_lock(tmp_path: Path) -> None:
    async with serving(tmp_path) as (database, tasks, server):
        (tmp_path / "link.db").symlink_to(database)
        with pytest.raises(DatabaseInUse):
            await open_store(f"sqlite:///{tmp_path / 'link.db'}").open(patience=0.0)
        lock = tmp_path / "receiver.db.lock"
        lock.unlink()
        # Before the server has looked, or after: nobody else gets in.
        with pytest.raises(DatabaseInUse):
            await open_store(f"sqlite:///{database}").open(patience=0.0)
        assert (await post(server, tasks[0], 1)).status == 200
        async with asyncio.timeout(5):
            while not lock.exists():
                await is_told(server)
        with pytest.raises(DatabaseInUse):
            await open_store(f"sqlite:///{database}").open(patience=0.0)
        await server.stop()


async def test_another_program_that_writes_for_long_costs_no_promise_and_no_patience(tmp_path: Path) -> None:
    async with serving(tmp_path) as (database, tasks, server):
        with closing(sqlite3.connect(database, isolation_level=None)) as other:
            other.execute("begin immediate")
            begun_at = time.monotonic()
            first = await post(server, tasks[0], 1)
            took = time.monotonic() - begun_at
            begun_at = time.monotonic()
            others = [await post(server, tasks[0], number) for number in (2, 3)]
            took_others = time.monotonic() - begun_at
            await is_told(server, "locked")
            other.execute("rollback")
        await is_told(server)
        again = await post(server, tasks[0], 4)
        await server.stop()
    assert [(answer.status, answer.reason) for answer in (first, *others)] == [(503, "locked")] * 3
    assert int(first.headers["retry-after"]) > 0
    assert took < 8
    assert took_others < AT_ONCE
    assert again.status == 200


async def test_a_backup_copied_over_a_killed_servers_file_is_refused_and_can_be_restored(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, 1)
    backup = tmp_path / "backup.db"
    async with running(tmp_path) as server:
        assert (await post(server, tasks[0], 1)).status == 200
        await says(tmp_path, "backup", str(backup))
        assert "stop that one" in await says(tmp_path, "restore", str(backup), code=2)
        for number in range(2, 30):
            await post(server, tasks[0], number)
        await server.kill()
    shutil.copyfile(backup, database)
    assert "receiver restore" in await says(tmp_path, *SERVE[3:], code=2)
    told = await says(tmp_path, "restore", str(backup), "--json")
    done = msgspec.json.decode(told)
    assert done["database"] == str(database)
    assert [Path(each).name.partition(".replaced-")[0] for each in done["kept"]] == ["receiver.db"] * len(done["kept"])
    assert any(each.endswith("-wal") for each in done["kept"])
    async with running(tmp_path) as server:
        assert (await server.get("/readyz")).status == 200
        assert len(kept(database)) == 1
        assert (await post(server, tasks[0], 99)).status == 200
        await server.stop()
    assert is_sound(database)
    assert len(kept(database)) == 2
    assert rows(backup, "pragma quick_check") == [("ok",)]


async def test_a_database_that_must_not_be_opened_ends_the_start_with_the_reason(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "receiver.db")) as connection:
        connection.execute("create table invoices (total int)")
    assert "belongs to another program" in await says(tmp_path, *SERVE[3:], code=2)
    os.mkdir(tmp_path / "sub")
    (tmp_path / "sub" / "receiver.toml").write_text('database = "sqlite:////data/r.db?mode=rwc"\n')
    assert "without ~, ?" in await says(tmp_path / "sub", *SERVE[3:], code=2)
