"""Pruning by a server in a process of its own: killed amid it, interrupted at a shell, and counted afterwards."""

import asyncio
import json
import signal
import sqlite3
import sys
from functools import partial
from pathlib import Path

import pytest
from long_ledger import make
from servers import ADMIN_TOKEN, Server, environment, is_sound, launched, prepared, rows, running, until

pytestmark = pytest.mark.slow

ROWS = 1000
PRUNE = (sys.executable, "-m", "receiver", "prune")
COUNTS = """
select name, state, n from action_counts where n <> 0 except select name, state, count(*) from actions group by 1, 2
"""
"""Kept counts that are not those of the table."""
UNFINISHED = """
select id from tasks t where settled = 0 or exists (
  select 1 from actions where task = t.key and (state in ('owed', 'running') or name = 'alerted'))
"""


async def long(directory: Path) -> tuple[Path, set[object]]:
    """Months of tasks, most of which may go, and a few that are waited for; the ids of those that must stay."""
    database = directory / "receiver.db"
    make(database, ROWS)
    connection = sqlite3.connect(database)
    connection.executescript(
        """
        update actions set name = 'alerted' where state = 'dead';
        insert into alerts (kind, subject, message, opened_at, last_at) values ('action_dead', 'alerted', '', 1, 1);
        delete from action_counts;
        insert into action_counts select name, state, count(*) from actions group by 1, 2;
        update deliveries set body = randomblob(900), size = 900;
        """
    )
    connection.close()
    await prepared(directory, 5)
    with (directory / "receiver.toml").open("a") as file:
        file.write("[keep]\ntasks = 30\n")
    return database, {row[0] for row in rows(database, UNFINISHED)}


async def pruned(server: Server, method: str) -> dict[str, object]:
    head = f"{method} /api/prune HTTP/1.1\r\nHost: receiver.test\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n"
    answer = await server.ask(f"{head}Content-Length: 0\r\n\r\n".encode())
    assert answer.status in (200, 202), answer.body
    found: dict[str, object] = json.loads(answer.body)
    return found


def removed(database: Path) -> int:
    ((count,),) = rows(database, "select coalesce(sum(removed), 0) from pruned")
    assert isinstance(count, int)
    return count


def is_more(database: Path, than: int) -> bool:
    return removed(database) > than


async def test_a_server_that_is_killed_amid_pruning_loses_nothing_and_goes_on(tmp_path: Path) -> None:
    database, unfinished = await long(tmp_path)
    assert len(unfinished) > 30
    for number in range(3):
        before = removed(database)
        async with running(tmp_path) as server:
            begun = asyncio.create_task(pruned(server, "POST"))
            await until(partial(is_more, database, before + 100 + 300 * number))
            await server.kill()
            begun.cancel()
            await asyncio.wait({begun})
        assert is_sound(database)
        assert rows(database, COUNTS) == rows(database, "pragma foreign_key_check") == []
        assert unfinished - {row[0] for row in rows(database, "select id from tasks")} == set()
    async with running(tmp_path) as server:
        while (await pruned(server, "POST"))["state"] == "running":
            pass
        await server.stop()
    assert {row[0] for row in rows(database, "select id from tasks")} == unfinished
    assert rows(database, COUNTS) == []
    assert is_sound(database)


async def test_an_interrupted_command_stops_the_run_and_says_that_the_rest_is_kept(tmp_path: Path) -> None:
    database, _ = await long(tmp_path)
    async with running(tmp_path) as server:
        given = environment(RECEIVER_URL=server.url)
        async with launched(tmp_path, argv=PRUNE, given=given) as command:
            await until(lambda: removed(database) > 100)
            command.signal(signal.SIGINT)
            assert await command.ended() == 1
        assert "what was not removed yet is kept" in command.err
        assert "Traceback" not in command.err
        async with asyncio.timeout(15):
            while (found := await pruned(server, "GET"))["state"] != "stopped":
                pass
        assert found["ended_at"] is not None
        assert len(rows(database, "select 1 from tasks")) > ROWS // 2
        await server.stop()


async def test_the_command_counts_and_removes_and_the_log_has_a_line_for_the_run(tmp_path: Path) -> None:
    _, unfinished = await long(tmp_path)
    async with running(tmp_path) as server:
        given = environment(RECEIVER_URL=server.url)
        said = []
        for words in (("--dry-run", "--json"), ("--json",), ("show",)):
            async with launched(tmp_path, argv=(*PRUNE, *words), given=given) as command:
                async with asyncio.timeout(120):
                    await command.process.wait()
                assert await command.ended() == 0, command.err
                said.append(command.out)
        would, went = json.loads(said[0]), json.loads(said[1])
        gone = {each["kind"]: each["rows"] for each in went["items"]}
        assert gone == {each["kind"]: each["rows"] for each in would["items"]}
        assert gone["tasks"] == ROWS + 5 - len(unfinished)
        assert f" {gone['tasks']} " in next(line for line in said[2].splitlines() if line.startswith("tasks"))
        lines = [line for line in server.lines if "prune" in line]
        assert len(lines) == 1
        assert f'"tasks": {gone["tasks"]}' in lines[0]
        await server.stop()
