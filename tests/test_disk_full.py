"""A disk without room: nothing is promised that is not kept, the world is told, and room heals it without anybody."""

import asyncio
import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from servers import Load, Server, indiscretions, is_sound, kept, prepared, request, running, success

SEED = 20_261_122
TASKS = 500
MIB = 1024 * 1024
HEALING = 5.0
"""Seconds after which everything works again."""

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of a few megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mounting, capture_output=True).returncode != 0:
        pytest.skip("a file system can be mounted by root alone")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_file_that_may_not_grow_costs_no_promise_and_heals(tmp_path: Path) -> None:
    """Twice: writes fail in the midst of a batch, at whatever byte the limit stands."""
    database, tasks = await prepared(tmp_path, TASKS)
    load = Load(tasks, SEED)
    async with running(tmp_path) as server:

        def limit(size: int) -> None:
            _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
            resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, hard))

        async with load.on(server):
            for _ in range(2):
                await load.more(200, 700)
                limit(max(file.stat().st_size for file in tmp_path.glob("receiver.db*")) + 10_000)
                await fails_and_heals(server, load, "disk_error", lambda: limit(resource.RLIM_INFINITY))
        await server.stop()
    assert_all_is_accounted_for(database, server, load, "disk_error")
    assert indiscretions(server, tasks) == []


async def test_a_disk_that_is_full_costs_no_promise_and_heals(small_disk: Path) -> None:
    database, tasks = await prepared(small_disk, TASKS)
    ballast = small_disk / "ballast"
    load = Load(tasks, SEED)
    async with running(small_disk) as server, load.on(server):
        for _ in range(2):
            await load.more(200, 700)
            fill(ballast)
            await fails_and_heals(server, load, "disk_full", ballast.unlink)
        await server.stop()
    assert_all_is_accounted_for(database, server, load, "disk_full")
    assert indiscretions(server, tasks) == []


def fill(ballast: Path) -> None:
    """Leaves a little room on the ballast's disk, or none: the server writes on while it is being filled."""
    free = shutil.disk_usage(ballast.parent).free
    try:
        ballast.write_bytes(bytes(max(0, free - 300_000)))
    except OSError as full:
        if full.errno != errno.ENOSPC:
            raise


async def fails_and_heals(server: Server, load: Load, reason: str, heal: Callable[[], None]) -> None:
    await load.more(503, 300)
    unready = await server.get("/readyz")
    assert (unready.status, reasons(unready.body)) == (503, [reason])
    assert (await server.get("/healthz")).status == 200
    heal()
    async with asyncio.timeout(HEALING):
        await load.more(200, 300)
        ready = await server.get("/readyz")
    assert (ready.status, reasons(ready.body)) == (200, [])


def assert_all_is_accounted_for(database: Path, server: Server, load: Load, reason: str) -> None:
    print(f"{len(load.promised)} promised, {load.statuses[503]} refused, {len(kept(database))} kept")
    assert load.promised - kept(database) == set()
    assert is_sound(database)
    assert set(load.statuses) == {200, 503}
    assert {answer.reason for answer in load.refusals} == {reason}
    assert all(int(answer.headers["retry-after"]) > 0 for answer in load.refusals)


async def test_below_the_floor_of_free_disk_nothing_is_taken(tmp_path: Path) -> None:
    database, tasks = await prepared(tmp_path, 1, floor=shutil.disk_usage(tmp_path).total + MIB)
    async with running(tmp_path) as server:
        answer = await server.ask(request("POST", tasks[0].path, success(tasks[0], 1)))
        unready = await server.get("/readyz")
        await server.stop()
    assert (answer.status, answer.reason, answer.headers["retry-after"]) == (503, "disk_low", "60")
    assert (unready.status, reasons(unready.body)) == (503, ["disk_low"])
    assert kept(database) == set()
    assert indiscretions(server, tasks) == []


def reasons(body: bytes) -> object:
    return msgspec.json.decode(body)["reasons"]
