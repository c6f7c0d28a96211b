"""What callbacks wait while old rows are removed."""

import asyncio
import itertools
import sqlite3
import statistics
import time
from collections.abc import Iterator
from typing import Any

import httpx
from long_ledger import make
from servers import ADMIN_TOKEN, Connection, Ordered, Server, prepared, request, running, success

from benchmarks.measuring import Result, Row, Run, measurement

CONCURRENCY = 4
CALLBACKS = 100
"""A second, while it is measured."""
SLICES, SLICE = (12, 3, 1), 3
"""How often it is measured with and without, in turn, and for how many seconds: other load is then in both."""


@measurement("how long callbacks wait while old rows are removed", rows=(100_000, 10_000, 2_000))
async def prune(run: Run) -> Result:
    """What callbacks wait for an answer of a server with nothing else to do, and of one that prunes, in turn."""
    rows, slices = run.size, run.scale.pick(*SLICES)
    waits: dict[str, list[float]] = {"idle": [], "pruning": []}
    directory = run.directory / "prune"
    directory.mkdir()
    make(directory / "receiver.db", rows * 9 // 40)  # five rows a task, and nine tasks in ten may go
    connection = sqlite3.connect(directory / "receiver.db")
    connection.execute("update deliveries set body = randomblob(900), size = 900")
    connection.commit()
    connection.close()
    tasks = enumerate(itertools.cycle((await prepared(directory, 1000))[1]))
    with (directory / "receiver.toml").open("a") as file:
        file.write("[keep]\ntasks = 30\n")
    async with running(directory) as server:
        for _ in range(slices):
            waits["idle"] += await callbacks(server, tasks, SLICE)
            begun_pruning = asyncio.create_task(pruning(server, "POST"))
            waits["pruning"] += await callbacks(server, tasks, SLICE)
            found = await pruning(server, "DELETE")
            await begun_pruning
        begun, before = time.perf_counter(), sum(each["rows_ever"] for each in found["items"])
        while (await pruning(server, "POST"))["state"] == "running":
            pass
        found = await pruning(server, "GET")
        removed = sum(each["rows_ever"] for each in found["items"])
        rate = (removed - before) / (time.perf_counter() - begun)
    report: dict[str, float] = {"removed": removed, "rows_per_second": rate}
    for what, seen in waits.items():
        cuts = statistics.quantiles(seen, n=100)
        report |= {f"{what}_count": len(seen), f"{what}_median_ms": cuts[49] * 1000, f"{what}_p99_ms": cuts[98] * 1000}
    report["p99_ratio"] = report["pruning_p99_ms"] / report["idle_p99_ms"]
    return Result(report, _rows(report))


async def callbacks(server: Server, tasks: Iterator[tuple[int, Ordered]], seconds: int) -> list[float]:
    """Posts callbacks at an even pace over a few connections. What each of them waited, in seconds."""

    async def post(place: int) -> list[float]:
        connection, seen = await Connection.open(server.port), []
        for number in range(seconds * CALLBACKS // CONCURRENCY):
            await asyncio.sleep(
                max(0.0, start + (number + place / CONCURRENCY) * CONCURRENCY / CALLBACKS - loop.time())
            )
            unlike, task = next(tasks)
            sent = request("POST", task.path, success(task, unlike))
            begun = time.perf_counter()
            answer = await connection.exchange(sent)
            seen.append(time.perf_counter() - begun)
            assert answer is not None
            assert answer.status == 200
        connection.close()
        return seen

    loop = asyncio.get_running_loop()
    start = loop.time() + 0.1
    return [each for seen in await asyncio.gather(*map(post, range(CONCURRENCY))) for each in seen]


async def pruning(server: Server, method: str) -> dict[str, Any]:
    """Begins pruning, asks about it, or stops it; what is answered."""
    async with httpx.AsyncClient(
        headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}, trust_env=False, timeout=30
    ) as http:
        found: dict[str, Any] = (await http.request(method, f"{server.url}/api/prune")).json()
        return found


def _rows(report: dict[str, float]) -> list[Row]:
    return [
        (f"a callback, with nothing else to do: {what}", f"{report[f'idle_{key}_ms']:.1f} ms", "1.00")
        for what, key in (("median", "median"), ("p99", "p99"))
    ] + [
        (
            "while old rows are removed: median",
            f"{report['pruning_median_ms']:.1f} ms",
            f"{report['pruning_median_ms'] / report['idle_median_ms']:.2f}",
        ),
        ("while old rows are removed: p99", f"{report['pruning_p99_ms']:.1f} ms", f"{report['p99_ratio']:.2f}"),
        (f"{report['removed']:,.0f} rows went, without callbacks", f"{report['rows_per_second']:.0f}/s", ""),
    ]
