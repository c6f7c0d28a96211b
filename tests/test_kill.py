"""Whatever was answered 200 is on disk, and whatever is owed is done, whenever the server is killed."""

import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import servers
from servers import (
    Load,
    Server,
    action_states,
    indiscretions,
    is_sound,
    kept,
    prepared,
    request,
    rows,
    running,
    success,
    until,
)

SEED = 20_261_122
ROUNDS = 10
CONTROL_ROUNDS = 20
TASKS = 1000
MOST = 700
"""Answers in a round at the most."""
EARLY = (servers.SERVE[0], str(Path(__file__).with_name("early_server.py")))
MARK = """
echo $RECEIVER_IDEMPOTENCY_KEY >> begun
cat > /dev/null
while test -e wait; do sleep 0.1; done
"""

pytestmark = pytest.mark.slow


async def kill_under_load(directory: Path, load: Load, answers: int, argv: Sequence[str] = servers.SERVE) -> Server:
    """One round: a server is started, and killed when it has given so many answers."""
    async with running(directory, argv=argv) as server, load.on(server):
        await load.more(200, answers)
        await server.kill()
    return server


async def test_what_was_answered_is_kept_however_often_the_server_is_killed(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, TASKS)
    moments, load = random.Random(SEED), Load(tasks, SEED)
    for _ in range(ROUNDS):
        killed = await kill_under_load(tmp_path, load, moments.randint(1, MOST))
        assert indiscretions(killed, tasks) == []
    async with running(tmp_path) as server:
        await server.stop()
    found = kept(database)
    print(f"{ROUNDS} kills, {len(load.promised)} promised, {len(found)} kept")
    assert load.promised - found == set()
    assert is_sound(database)
    assert set(load.statuses) == {200}


async def test_a_server_that_answers_before_the_commit_is_found_out(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, TASKS)
    moments, load = random.Random(SEED), Load(tasks, SEED)
    for number in range(CONTROL_ROUNDS):
        await kill_under_load(tmp_path, load, moments.randint(1, MOST), EARLY)
        if lost := load.promised - kept(database):
            print(f"{number + 1} kills, {len(load.promised)} promised, {len(lost)} lost")
            return
    pytest.fail("every promise was kept: the proof cannot fail")


async def test_actions_that_were_owed_or_running_at_the_kill_are_done_by_the_next_server(tmp_path: Path) -> None:
    database, tasks = await prepared(
        tmp_path,
        4,
        """
        [[actions]]
        name = "mark"
        kind = "command"
        command = ["sh", "mark.sh"]
        lease = 1
        concurrency = 2
        """,
    )
    begun, wait = tmp_path / "begun", tmp_path / "wait"
    wait.touch()
    (tmp_path / "mark.sh").write_text(MARK)
    async with running(tmp_path) as server:
        for number, task in enumerate(tasks):
            answer = await server.ask(request("POST", task.path, success(task, number)))
            assert answer.status == 200
        await until(lambda: begun.exists() and begun.read_text().count("\n") == 2)
        await until(lambda: action_states(database) == {"running": 2, "owed": 2})
        await server.kill()
    wait.unlink()
    await until(lambda: rows(database, "select 1 from actions where lease_until > ?", time.time()) == [])
    async with running(tmp_path) as server:
        await until(lambda: action_states(database) == {"done": 4})
        await server.stop()
        assert indiscretions(server, tasks) == []
    keys = begun.read_text().split()
    assert (len(keys), len(set(keys))) == (6, 4), "a repeated effect has the key of the first"
    assert rows(database, "select outcome, count(*) from attempts group by outcome order by outcome") == [
        ("done", 4),
        ("interrupted", 2),
    ]
