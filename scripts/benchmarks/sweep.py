"""A reconcile sweep: many tasks of which nothing was heard are due at once."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import environment, rows, running, until

from benchmarks.load import fill
from benchmarks.machine import resident, used
from benchmarks.measuring import Result, Run, measurement
from benchmarks.receiving import SETTINGS

PATIENCE = 300.0


@measurement("a reconcile sweep of tasks that are all due at once", whole=True, tasks=(10_000, 500, 20))
async def sweep(run: Run) -> Result:
    """All have succeeded, and RunningHub, on this machine, says so at once; each is asked about once."""
    home = run.directory / "sweep"
    home.mkdir()
    (home / "receiver.toml").write_text(SETTINGS)
    ledger = home / "receiver.db"
    fill(ledger, range(run.size), time.time(), callback=False, check_at=time.time())
    with provider() as url:
        async with running(home, given=environment(RUNNINGHUB_BASE_URL=url)) as server:
            begun, before = time.perf_counter(), used(server.pid)
            await until(lambda: _ended(ledger) == run.size, PATIENCE)
            seconds, cpu = time.perf_counter() - begun, used(server.pid) - before
            memory = resident(server.pid, "VmHWM")
    figures = {"took_seconds": seconds, "rate": run.size / seconds, "cpu_ms": cpu / run.size * 1000, "most_mib": memory}
    remark = f"{figures['cpu_ms']:.1f} ms processor a task, {memory:.0f} MiB"
    return Result(figures, [(f"{run.size:,} due tasks asked about and ended", f"{figures['rate']:.0f}/s", remark)])


def _ended(ledger: Path) -> int:
    return int(str(rows(ledger, "select count(*) from events")[0][0]))


@contextmanager
def provider() -> Iterator[str]:
    """A provider in another process, for which every task has succeeded."""
    process = subprocess.Popen(
        [sys.executable, Path(__file__).with_name("programs") / "provider.py"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
