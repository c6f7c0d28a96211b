"""What it costs that many hear of every change."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from listening import listening
from servers import Server, prepared, running

from benchmarks.machine import resident, used
from benchmarks.measuring import Result, Run, measurement
from benchmarks.prune import callbacks
from receiver.model import streaming
from receiver.model.entries import Change
from receiver.server.stream import Stream

TURNS = 3


@measurement("a hundred callbacks a second, with no reader of the stream and with 64", seconds=(30, 6, 3))
async def stream(run: Run) -> Result:
    """The processor that the server needs for either, in turn."""
    directory = run.directory / "stream"
    directory.mkdir()
    turn = max(1, run.size // TURNS)
    spent: dict[bool, float] = {False: 0.0, True: 0.0}
    tasks = enumerate(itertools.cycle((await prepared(directory, 1000))[1]))
    async with running(directory) as server:
        await callbacks(server, tasks, 1)
        for heard in (False, True) * TURNS:
            async with listened(server, streaming.READERS if heard else 0):
                before = used(server.pid)
                await callbacks(server, tasks, turn)
                spent[heard] += used(server.pid) - before
        memory = resident(server.pid)
    without, readers = (spent[heard] / turn / TURNS * 100 for heard in (False, True))
    cost = published()
    rows = [
        ("share of one processor, with no reader", f"{without:.1f} %", "1.00"),
        ("with 64 readers", f"{readers:.1f} %", f"{readers / without:.2f}" if without else ""),
        ("memory then", f"{memory:.0f} MiB", ""),
        ("a change of which nobody hears", f"{cost:.1f} us", ""),
    ]
    figures = {"alone_percent": without, "heard_percent": readers, "memory_mib": memory, "publish_us": cost}
    return Result(figures, rows)


def published() -> float:
    """What a change costs of which nobody hears, in microseconds."""
    ring, told = Stream("x"), [Change("task", "019a0000-0000-7000-8000-000000000000", "succeeded")]
    begun = time.perf_counter()
    for _ in range(100_000):
        ring.publish(told)
    return (time.perf_counter() - begun) * 10


@asynccontextmanager
async def listened(server: Server, readers: int) -> AsyncIterator[None]:
    """So many readers, which hear everything."""
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(listening(server.port)) for _ in range(readers)]
        hearing = [asyncio.create_task(each.until(lambda: False, 1e9)) for each in listeners]
        yield
        for each in hearing:
            each.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)
