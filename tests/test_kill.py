"""Whatever was answered 200 is on disk, whenever the server is killed."""

import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import servers
from servers import Load, Ordered, Server, fill_ledger, indiscretions, is_sound, kept, running

ROUNDS = 12
CONTROL_ROUNDS = 12
TASKS = 600
SEED = 20_261_122
EARLY = (servers.SERVE[0], str(Path(__file__).with_name("early_server.py")))

pytestmark = pytest.mark.slow


@pytest.fixture
async def ledger(tmp_path: Path) -> Sequence[Ordered]:
    (tmp_path / "receiver.toml").write_text("[callbacks]\ndisk_floor = 0\n")
    return await fill_ledger(tmp_path / "receiver.db", TASKS)


async def kill_under_load(directory: Path, load: Load, answers: int, argv: Sequence[str] = servers.SERVE) -> Server:
    """One round: a server is started, and killed when it has made so many promises."""
    async with running(directory, argv=argv) as server, load.on(server):
        await load.more(200, answers)
        await server.kill()
    return server


async def test_what_was_answered_is_kept_however_often_the_server_is_killed(
    tmp_path: Path, ledger: Sequence[Ordered]
) -> None:
    moments, load = random.Random(SEED), Load(ledger, SEED)
    for _ in range(ROUNDS):
        killed = await kill_under_load(tmp_path, load, moments.randint(1, 900))
        assert indiscretions(killed, ledger) == []
    async with running(tmp_path) as server:
        await server.stop()
    database = tmp_path / "receiver.db"
    print(len(load.promised), "promised", len(kept(database)), "kept")
    assert load.promised - kept(database) == set()
    assert is_sound(database)
    assert set(load.statuses) == {200}


async def test_a_server_that_answers_before_the_commit_is_found_out(tmp_path: Path, ledger: Sequence[Ordered]) -> None:
    moments, load = random.Random(SEED), Load(ledger, SEED)
    for number in range(CONTROL_ROUNDS):
        await kill_under_load(tmp_path, load, moments.randint(1, 900), EARLY)
        if load.promised - kept(tmp_path / "receiver.db"):
            print("found in round", number + 1, len(load.promised - kept(tmp_path / "receiver.db")), len(load.promised))
            return
    pytest.fail("every promise was kept: the proof cannot fail")
