"""A server that is told to stop: it ends in time, keeps its promises, and leaves nothing running and nothing locked."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest
from servers import (
    Connection,
    Load,
    action_states,
    environment,
    indiscretions,
    is_sound,
    kept,
    launched,
    prepared,
    request,
    rows,
    running,
    success,
    until,
)

from receiver.model.errors import DatabaseInUse
from receiver.server.address import address_file
from receiver.store import open_store

SEED = 20_261_122
TASKS = 1500
AT_ONCE = 1.5
ALLOWED = 10.0
"""Seconds from the signal to the end of the process."""
LISTENING = "0A"
EFFECTS = """
import asyncio, threading

async def waits(document):
    await asyncio.sleep(30)

def blocks(document):
    threading.Event().wait(30)

async def leaves_a_thread(document):
    await asyncio.to_thread(threading.Event().wait, 30)

async def refuses(document):
    while True:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            pass
"""
FUNCTIONS = """
[[actions]]
name = "waits"
kind = "python"
function = "effects:waits"
[[actions]]
name = "blocks"
kind = "python"
function = "effects:blocks"
"""
PROGRAM = """
[[actions]]
name = "sleeps"
kind = "command"
command = ["sleep", "30"]
"""
ENDLESS = """
[[actions]]
name = "leaves-a-thread"
kind = "python"
function = "effects:leaves_a_thread"
concurrency = 1
[[actions]]
name = "refuses"
kind = "python"
function = "effects:refuses"
concurrency = 1
"""

pytestmark = pytest.mark.slow


async def test_a_server_that_is_told_to_stop_under_load_ends_in_time_and_gives_everything_back(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, TASKS, FUNCTIONS + PROGRAM)
    (tmp_path / "effects.py").write_text(EFFECTS)
    load = Load(tasks[1:], SEED)
    async with running(tmp_path) as server:
        hung = await Connection.open(server.port)
        hung.send(request("POST", tasks[0].path, success(tasks[0], 0))[:-100])
        async with load.on(server):
            await load.more(200, 500)
            await until(lambda: len(rows(database, "select distinct name from actions where state = 'running'")) == 3)
            running_then = action_states(database)["running"]
            told_at = time.monotonic()
            server.signal(signal.SIGTERM)
            code = await server.ended()
            took = time.monotonic() - told_at
        cut_off = await hung.answer()
        hung.close()
    print(f"{len(load.promised)} promised, {running_then} running, ended in {took:.2f} s")
    assert code == 0
    assert took < ALLOWED
    assert cut_off is not None
    assert (cut_off.status, cut_off.reason) == (503, "stopping")
    assert load.promised - kept(database) == set()
    assert set(load.statuses) == {200}
    assert set(action_states(database)) == {"owed"}
    assert rows(database, "select 1 from actions where lease_until is not null or attempts > 0") == []
    assert rows(database, "select distinct outcome from attempts") == [("returned",)]
    assert is_sound(database)
    assert indiscretions(server, tasks) == []
    assert not address_file(database).exists()


async def test_a_function_that_will_not_end_does_not_keep_the_server(tmp_path: Path) -> None:
    """What refuses its cancellation is left behind, and ends with the process: so it is given back as well."""
    database, tasks = await prepared(tmp_path, 1, ENDLESS)
    (tmp_path / "effects.py").write_text(EFFECTS)
    async with running(tmp_path) as server:
        await server.ask(request("POST", tasks[0].path, success(tasks[0], 0)))
        await until(lambda: action_states(database) == {"running": 2})
        told_at = time.monotonic()
        await server.stop()
    assert time.monotonic() - told_at < ALLOWED
    assert rows(database, "select name, state from actions order by name") == [
        ("leaves-a-thread", "owed"),
        ("refuses", "owed"),
    ]
    assert indiscretions(server, tasks) == []


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, 1, FUNCTIONS)
    (tmp_path / "effects.py").write_text(EFFECTS)
    async with running(tmp_path) as server:
        answer = await server.ask(request("POST", tasks[0].path, success(tasks[0], 0)))
        await until(lambda: rows(database, "select 1 from actions where state = 'running'") != [])
        server.signal(signal.SIGTERM)
        await until(lambda: '"stop"' in server.err)
        told_at = time.monotonic()
        server.signal(signal.SIGTERM)
        code = await server.process.wait()
        took = time.monotonic() - told_at
    assert answer.status == 200
    assert code == 1
    assert took < AT_ONCE
    assert len(kept(database)) == 1


async def test_one_process_owns_the_database_and_the_next_waits_for_its_end(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, 1)
    async with running(tmp_path) as first, launched(tmp_path) as second:
        await until(lambda: has_open(second.pid, "receiver.db.lock"))
        with pytest.raises(DatabaseInUse):
            await open_store(f"sqlite:///{database}").open(patience=0.3)
        await first.stop()
        await second.ready()
        answer = await second.ask(request("POST", tasks[0].path, success(tasks[0], 0)))
        await second.stop()
    assert answer.status == 200
    assert indiscretions(first, tasks) + indiscretions(second, tasks) == []


async def test_a_server_that_waits_for_the_database_can_be_told_to_stop(tmp_path: Path) -> None:
    await prepared(tmp_path, 1)
    async with running(tmp_path), launched(tmp_path) as second:
        await until(lambda: has_open(second.pid, "receiver.db.lock"))
        told_at = time.monotonic()
        await second.stop()
    assert time.monotonic() - told_at < AT_ONCE
    assert indiscretions(second) == []


async def test_with_only_a_port_given_the_server_listens_everywhere(tmp_path: Path) -> None:
    given = {"PATH": environment()["PATH"], "PORT": "0"}
    async with running(tmp_path, given=given) as server:
        everywhere = f"00000000:{server.port:04X}"
        sockets = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        assert [each[3] for each in sockets if each[1] == everywhere] == [LISTENING]
        assert (await server.get("/readyz")).status == 200
        await server.stop()
    assert (tmp_path / "receiver.db").stat().st_mode & 0o777 == 0o600
    assert indiscretions(server) == []


def has_open(pid: int, name: str) -> bool:
    """Whether a process has a file of that name open."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed in the meantime
            if os.readlink(descriptor).endswith(name):
                return True
    return False
