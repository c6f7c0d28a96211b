"""The whole way of a task: ordered, submitted, called back, confirmed, its file saved."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import DEVNULL
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
from house import INPUT, MODEL
from servers import ADMIN_TOKEN, API_KEY, Server, action_states, environment, running, until

import receiver
from benchmarks import peers
from benchmarks.contenders import PEER, process, wait_for
from benchmarks.machine import free_port, resident, used, used_by_loop
from benchmarks.measuring import Result, Row, Run, Scale, measurement

PATIENCE = 300.0
CLIENTS = 16
"""Orders that are on their way at once."""
FILE = 4096
"""Bytes of a result."""
ROOMS = 14
"""How many of them the table shows."""
SIMULATE = (sys.executable, "-m", "receiver", "simulate", "--task-seconds", "0.5", "--file-size", str(FILE))
HOUSE = f"({Path(receiver.__file__).parent}/"
ORDER = {"kind": "model", "target": MODEL, "input": INPUT}


@measurement("tasks in a second, from order to saved file", whole=True, tasks=(1_500, 150, 10))
async def pipeline(run: Run) -> Result:
    """The simulator and whoever orders share the machine. Then once more under a profiler, for where the time goes."""
    async with _program(run.directory / "pipeline") as (server, ledger):
        await _played(server, ledger, run.size // 10, 0)
        begun, before, loop = time.perf_counter(), used(server.pid), used_by_loop(server.pid)
        await _played(server, ledger, run.size, run.size // 10)
        seconds, cpu = time.perf_counter() - begun, used(server.pid) - before
        loop, memory = used_by_loop(server.pid) - loop, resident(server.pid, "VmHWM")
    rate, each = run.size / seconds, cpu / run.size * 1000
    figures: dict[str, Any] = {"took_seconds": seconds, "rate": rate, "cpu_ms": each, "most_mib": memory}
    figures["loop_cpu_ms"] = loop / run.size * 1000
    remark = f"{each:.1f} ms processor a task, {figures['loop_cpu_ms']:.1f} of them in the loop, {memory:.0f} MiB"
    table: list[Row] = [("tasks", f"{rate:.0f}/s", remark)]
    figures["where"] = shares = await _where(run)
    if not shares:
        table.append(("  where it goes", "-", "left out: py-spy is not installed, or may not look"))
    else:
        table.append(("  what Python's lock is held for", "", ""))
    for room, share in sorted(shares.items(), key=lambda each: -each[1])[:ROOMS]:
        table.append((f"  {room}", f"{share * 100:.0f} %", ""))
    return Result(figures, table)


@asynccontextmanager
async def _program(home: Path) -> AsyncIterator[tuple[Server, Path]]:
    """The simulator and a server that uses it."""
    home.mkdir()
    (home / "receiver.toml").write_text("[callbacks]\ndisk_floor = 0\n[runninghub]\nmax_in_flight = 500\n")
    with ExitStack() as stack:
        provider, door = free_port(), free_port()
        argv = [*SIMULATE, "--port", str(provider), "--api-key", API_KEY]
        stack.enter_context(process(argv, home, PEER))
        wait_for(provider, home)
        given = environment(
            PORT=str(door),
            RECEIVER_PUBLIC_URL=f"http://127.0.0.1:{door}",
            RUNNINGHUB_BASE_URL=f"http://127.0.0.1:{provider}",
        )
        async with running(home, given=given) as server:
            yield server, home / "receiver.db"


async def _played(server: Server, ledger: Path, count: int, done: int) -> None:
    """Orders so many tasks, and waits until their files are saved; so many were before."""
    left = iter(range(count))
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

    async def order(api: httpx.AsyncClient) -> None:
        for _ in left:
            (await api.post("/api/tasks", json=ORDER)).raise_for_status()

    async with httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False, timeout=60) as api:
        await asyncio.gather(*(order(api) for _ in range(CLIENTS)))
    await until(lambda: action_states(ledger).get("done") == count + done, PATIENCE)


# ---------------------------------------------------------------- where it goes


async def _where(run: Run) -> dict[str, float]:
    """For which file of this program Python's lock is held, and what part of the time; empty if nobody can say."""
    if run.scale is not Scale.LEAST:
        peers.install()
    profiler, stacks = peers.program("py-spy"), run.directory / "stacks"
    if profiler is None:
        return {}
    async with _program(run.directory / "profiled") as (server, ledger):
        how = ["--gil", "--rate", "250", "--format", "raw", "--full-filenames", "--output", str(stacks)]
        profiling = await asyncio.create_subprocess_exec(
            profiler, "record", "--pid", str(server.pid), *how, stdout=DEVNULL, stderr=DEVNULL
        )
        await _played(server, ledger, max(10, run.size // 2), 0)
        with suppress(ProcessLookupError):
            profiling.send_signal(signal.SIGINT)
        await profiling.wait()
    return shares(stacks.read_text()) if stacks.exists() else {}


def shares(stacks: str) -> dict[str, float]:
    """Of lines such as "outer (file:1);inner (file:2) 12": what part was spent in or beneath which file."""
    spent: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        spent[_room(stack.split(";"))] += int(count)
    return {room: count / spent.total() for room, count in spent.items()}


def _room(frames: list[str]) -> str:
    """The file of this program that is innermost: what libraries do is done for whoever called them."""
    for frame in reversed(frames):
        _, found, file = frame.partition(HOUSE)
        if found and not file.startswith(("__main__", "cli/")):
            return file.rpartition(":")[0].removesuffix(".py")
    for library in ("uvicorn", "starlette"):
        if any(library in frame for frame in frames):
            return f"({library})"
    return "(the event loop)"
