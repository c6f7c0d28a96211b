"""A replay of a long ledger, and who waits meanwhile."""

import asyncio
import shutil
import time

import httpx
from servers import ADMIN_TOKEN, running

from benchmarks.machine import resident
from benchmarks.measuring import Result, Row, Run, measurement
from benchmarks.receiving import long_ledger

HOOK = '[[actions]]\nname = "hook"\nkind = "http"\nurl = "http://127.0.0.1:9/"\n'


@measurement("a replay of a long ledger: memory, and who waits meanwhile", rows=(1_000_000, 20_000, 500))
async def replays(run: Run) -> Result:
    """A replay of all tasks that have ended, in a server of its own, while others ask it for a small page."""
    home = run.directory / "replays"
    home.mkdir()
    shutil.copy(long_ledger(run.directory, run.size), home / "receiver.db")
    (home / "receiver.toml").write_text(f"keep_files = false\n[callbacks]\ndisk_floor = 0\n{HOOK}")
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with (
        running(home) as server,
        httpx.AsyncClient(base_url=f"{server.url}/api", headers=headers, timeout=900) as api,
    ):
        await api.post("/definitions/hook/pause")
        report: dict[str, float] = {"list_mib": len((await api.get("/tasks?limit=500")).content) / 2**20}
        before, waits = resident(server.pid), [0.0]
        asking = asyncio.create_task(ask(api, waits))
        begun = time.perf_counter()
        dry = (await api.post("/replays", json={"mode": "again", "dry_run": True})).json()
        report |= {"matched": dry["matched"], "dry_seconds": time.perf_counter() - begun}
        report["dry_extra_mib"] = resident(server.pid, "VmHWM") - before
        begun = time.perf_counter()
        made = (await api.post("/replays", json={"mode": "again", "all": True})).json()
        while made["searching"]:
            await asyncio.sleep(0.5)
            made = (await api.get(f"/replays/{made['id']}")).json()
        assert made["matched"] == dry["matched"]
        report |= {"real_seconds": time.perf_counter() - begun, "slowest_ms": max(waits) * 1000}
        report["real_extra_mib"] = resident(server.pid, "VmHWM") - before
        asking.cancel()
    return Result(report, _rows(report))


async def ask(api: httpx.AsyncClient, waits: list[float]) -> None:
    while True:
        begun = time.perf_counter()
        (await api.get("/alerts?limit=1")).raise_for_status()
        waits.append(time.perf_counter() - begun)
        await asyncio.sleep(0.05)


def _rows(report: dict[str, float]) -> list[Row]:
    def took(what: str) -> Row:
        figures = f"{report[f'{what}_seconds']:.0f} s", f"{report[f'{what}_extra_mib']:.1f} MiB more"
        return f"a replay of {report['matched']:,.0f} tasks, {what}", *figures

    slowest = ("the slowest of other requests meanwhile", f"{report['slowest_ms']:.0f} ms", "")
    return [took("dry"), took("real"), slowest, ("500 tasks of the list", f"{report['list_mib']:.2f} MiB", "")]
