"""`receiver serve` on PostgreSQL: the whole way of a task, and what happens when the server or the wire to it fails."""

import asyncio
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import servers
from cutter import Cut, Cutter
from postgres import END_OURS, free_port, new_ledger, require
from postgres import Server as Postgres
from servers import Kept, Load, Server, environment, filled, indiscretions, launched, request, running, success, until

SEED = 20_261_125
TASKS = 400

pytestmark = pytest.mark.slow


def given(url: str, **more: str) -> dict[str, str]:
    return environment(RECEIVER_DATABASE=url, **more)


def without_floor(directory: Path) -> None:
    (directory / "receiver.toml").write_text("[callbacks]\ndisk_floor = 0\n")


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    """A server of the test's own, to be broken."""
    require()
    server = Postgres(max_connections="12", superuser_reserved_connections="0").make().start()
    yield server
    server.remove()


def kept(url: str) -> set[Kept]:
    with psycopg.connect(url) as connection:
        found = connection.execute("select t.id, d.digest from deliveries d join tasks t on t.key = d.task").fetchall()
    return {(task, bytes(digest)) for task, digest in found}


@asynccontextmanager
async def simulator() -> AsyncIterator[str]:
    """The provider in a process of its own; its URL."""
    argv = (sys.executable, "-m", "receiver", "simulate", "--port", str(free_port()), "--task-seconds", "0.2")
    async with running(Path(), argv=argv, given={"PATH": os.environ["PATH"]}) as provider:
        yield provider.url


async def run(directory: Path, env: dict[str, str], *arguments: str) -> tuple[int, str, str]:
    """A command of ours; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "receiver", *arguments),
        cwd=directory,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


# ---------------------------------------------------------------- the whole way


async def test_a_task_goes_from_its_order_to_its_saved_file(tmp_path: Path) -> None:
    url = new_ledger()
    without_floor(tmp_path)
    async with simulator() as provider:
        env = given(url, RUNNINGHUB_BASE_URL=provider)
        async with running(tmp_path, given={**env, "RECEIVER_PUBLIC_URL": ""}) as server:
            called = {**env, "RECEIVER_URL": server.url}
            code, out, err = await run(
                *(tmp_path, called, "submit", "youchuan/text-to-image-v7", "prompt=a lighthouse"), "--wait", "--json"
            )
            assert code == 0, err
            task = json.loads(out)
            assert task["state"] == "succeeded"
            await until(lambda: any(path.is_file() for path in (tmp_path / "results").rglob("*")))
            code, _, err = await run(tmp_path, called, "backup", "copy.db")
            assert code == 1
            assert "pg_dump" in err
            code, out, _ = await run(tmp_path, called, "check", "--json")
            found = {each["what"]: each["found"] for each in json.loads(out)["found"]}
            assert found["database"].startswith("PostgreSQL ")
            assert found["database"].endswith("up to date")
            await server.stop()
            assert indiscretions(server) == []
    code, _, err = await run(tmp_path, env, "restore", "receiver.toml")
    assert (code, "PostgreSQL" in err) == (2, True)


async def test_what_a_file_would_make_by_itself_is_asked_for_by_name(tmp_path: Path) -> None:
    url = new_ledger()
    code, _, err = await run(tmp_path, given(url, RECEIVER_SECRETS="", RECEIVER_ADMIN_TOKEN=""), "serve")
    assert code == 2
    assert "RECEIVER_SECRETS: secrets: must be given" in err
    assert "RECEIVER_ADMIN_TOKEN: admin_token: must be given" in err


async def test_a_second_server_on_the_same_ledger_ends_and_leaves_the_first_one_alone(tmp_path: Path) -> None:
    url = new_ledger()
    without_floor(tmp_path)
    async with running(tmp_path, given=given(url)) as server:
        async with launched(tmp_path, given=given(url)) as second:
            await second.saying("another process is serving this database")
            second.signal(signal.SIGTERM)
        assert (await server.get("/readyz")).status == 200


# ---------------------------------------------------------------- what breaks


async def test_what_was_answered_is_kept_when_the_server_crashes_amid_a_batch(
    postgres: Postgres, tmp_path: Path
) -> None:
    url = postgres.url("public")
    without_floor(tmp_path)
    tasks = await filled(url, TASKS)
    load = Load(tasks, SEED)
    async with running(tmp_path, given=given(url)) as server, load.on(server, 16):
        for _ in range(3):
            await load.more(200, 200)
            await asyncio.to_thread(postgres.kill)
            await load.more(503, 20)
            await asyncio.to_thread(postgres.start)
        await load.more(200, 200)
        await server.well()
    assert load.promised - kept(url) == set()
    assert set(load.statuses) == {200, 503}
    assert indiscretions(server, tasks) == []


@pytest.mark.parametrize("cut", Cut, ids=lambda cut: cut.name.lower())
async def test_a_wire_that_is_cut_at_a_commit_is_an_outage_and_nothing_is_kept_twice(cut: Cut, tmp_path: Path) -> None:
    url = new_ledger()
    without_floor(tmp_path)
    (task,) = await filled(url, 1)
    port = int(url.rpartition(":")[2].partition("/")[0])
    async with Cutter(port, b"TASK_END").running() as wire:
        through = url.replace(f":{port}/", f":{wire.port}/")
        async with running(tmp_path, given=given(through)) as server:
            wire.plan = [cut]
            body = success(task, 1)
            first = await server.ask(request("POST", task.path, body))
            assert (first.status, first.reason) == (503, "connection_lost")
            assert int(first.headers["retry-after"]) > 0
            assert wire.cuts == [cut]
            await server.well()
            again = await server.ask(request("POST", task.path, body))
            assert again.status == 200
            assert json.loads(again.body)["duplicate"] is (cut is Cut.UNANSWERED)
    assert kept(url) == {(task.id, hashlib.sha256(body).digest())}


async def test_cuts_under_load_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    url = new_ledger()
    without_floor(tmp_path)
    tasks = await filled(url, TASKS)
    load = Load(tasks, SEED)
    port = int(url.rpartition(":")[2].partition("/")[0])
    async with Cutter(port, b"TASK_END").running() as wire:
        through = url.replace(f":{port}/", f":{wire.port}/")
        async with running(tmp_path, given=given(through)) as server, load.on(server, 16):
            for cut in [*Cut, *Cut]:
                await load.more(200, 100)
                wire.plan = [cut]
                await load.more(503, 1)
            await load.more(200, 100)
        assert len(wire.cuts) == 4
    assert load.promised - kept(url) == set()
    assert indiscretions(server, tasks) == []


async def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.url("public")
    without_floor(tmp_path)
    tasks = await filled(url, 2)
    async with running(tmp_path, given=given(url)) as server:
        postgres.tell("alter system set default_transaction_read_only = on", "select pg_reload_conf()")
        assert (await refused(server, tasks[0])) == "read_only"
        postgres.tell("alter system set default_transaction_read_only = off", "select pg_reload_conf()")
        await server.well()
        assert (await server.ask(request("POST", tasks[0].path, success(tasks[0], 2)))).status == 200


async def test_a_server_without_a_free_connection_is_waited_for(postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.url("public")
    without_floor(tmp_path)
    tasks = await filled(url, 2)
    async with running(tmp_path, given=given(url)) as server:
        with holding(url) as take:
            reason = ""
            async with asyncio.timeout(servers.PATIENCE):
                # Until the server has lost its own: it may be quicker in taking them back.
                while reason != "too_many_connections":
                    take()
                    answer = await server.ask(request("POST", tasks[0].path, success(tasks[0], 1)))
                    reason = answer.reason if answer.status == 503 else ""
        await server.well()
        assert (await server.ask(request("POST", tasks[0].path, success(tasks[0], 2)))).status == 200


async def test_a_full_disk_refuses_and_room_on_it_is_noticed(postgres: Postgres, tmp_path: Path) -> None:
    with small_disk(postgres.directory / "small") as disk:
        shutil.chown(disk, postgres.user or os.getuid())
        postgres.tell(f"create tablespace small location '{disk}'")
        url = postgres.url("public").replace("options=", f"options={quote('-cdefault_tablespace=small ')}")
        without_floor(tmp_path)
        tasks = await filled(url, TASKS)
        load = Load(tasks, SEED)
        async with running(tmp_path, given=given(url)) as server, load.on(server, 8):
            await load.more(200, 100)
            ballast = disk / "ballast"
            with suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            await load.more(503, 20)
            assert {answer.reason for answer in load.refusals} == {"disk_full"}
            ballast.unlink()
            await load.more(200, 100)
        assert load.promised - kept(url) == set()
        postgres.stop()


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A disk of its own, which is soon full."""
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", place], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk of its own can be mounted: {mounted.stderr.decode()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


async def test_a_standby_that_takes_over_is_found_by_itself(postgres: Postgres, tmp_path: Path) -> None:
    standby = postgres.standby()
    try:
        hosts = f"127.0.0.1:{postgres.port},127.0.0.1:{standby.port}"
        url = f"postgresql://receiver@{hosts}/postgres"
        without_floor(tmp_path)
        tasks = await filled(url, 2)
        async with running(tmp_path, given=given(url)) as server:
            assert (await server.ask(request("POST", tasks[0].path, success(tasks[0], 1)))).status == 200
            # Smoothly: what was acknowledged has come to the standby.
            await asyncio.to_thread(postgres.stop)
            assert (await refused(server, tasks[1])) in ("connection_lost", "read_only")
            standby.promote()
            await server.well()
            assert (await server.ask(request("POST", tasks[1].path, success(tasks[1], 2)))).status == 200
        assert len(kept(standby.url("public"))) == 2
    finally:
        standby.remove()


@contextmanager
def holding(url: str) -> Iterator[Callable[[], None]]:
    """What ends the sessions of our server, and takes all connections that there are; they are given back."""
    with ExitStack() as held, psycopg.connect(url, autocommit=True) as first:

        def take() -> None:
            first.execute(END_OURS)
            with suppress(psycopg.OperationalError):
                while True:
                    held.enter_context(psycopg.connect(url, autocommit=True))

        yield take


async def refused(server: Server, task: servers.Ordered) -> str:
    """Posts a callback until it is refused; the reason."""
    for number in range(1, 50):
        answer = await server.ask(request("POST", task.path, success(task, number)))
        if answer.status == 503:
            return answer.reason
        assert answer.status == 200
    raise AssertionError("nothing was refused")
