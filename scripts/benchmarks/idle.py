"""A server that has nothing to do."""

import asyncio

from servers import SERVE, environment, launched

from benchmarks.machine import resident, used
from benchmarks.measuring import Result, Run, measurement


@measurement("the processor and the memory of a server that has nothing to do", whole=True, seconds=(20, 3, 1))
async def idle(run: Run) -> Result:
    home = run.directory / "idle"
    home.mkdir()
    async with launched(home, argv=SERVE, given=environment()) as server:
        await server.ready()
        await asyncio.sleep(min(2, run.size))
        before = used(server.pid)
        await asyncio.sleep(run.size)
        percent = (used(server.pid) - before) / run.size * 100
        memory = resident(server.pid)
    rows = [("share of one processor", f"{percent:.2f} %", ""), ("memory", f"{memory:.0f} MiB", "")]
    return Result({"processor_percent": percent, "memory_mib": memory}, rows)
