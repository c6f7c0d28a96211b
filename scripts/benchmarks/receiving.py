"""Callbacks in a second, of this program and of others, side by side."""

import shutil
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from long_ledger import make
from servers import rows

from benchmarks import peers
from benchmarks.contenders import BARE, CONTENDERS, Contender, Missing, Started
from benchmarks.load import WARM, Loaded, Slice, fill, post, slices
from benchmarks.machine import TICKS, resident, used
from benchmarks.measuring import Result, Row, Run, Scale, measurement
from receiver.store.sqlite.database import connect

CONNECTIONS = (64, 256)
MOST = 24_000
"""Callbacks in a second for which there are tasks. Who is faster is sent some of them again."""
SETTINGS = "keep_files = false\n[callbacks]\ndisk_floor = 0\n"
Runs = dict[str, dict[int, list[dict[str, float]]]]
"""By contender and connections: what each turn gave."""


@measurement("callbacks in a second, beside other ways to keep them", whole=True, rows=(1_000_000, 20_000, 500))
async def receiving(run: Run) -> Result:
    turns, tenths = run.scale.pick(3, 1, 1), run.scale.pick(25, 5, 5)
    missing: dict[str, str] = {}
    if run.scale is not Scale.LEAST:
        peers.install()
    runs: Runs = {}
    long = _at_rest(long_ledger(run.directory, run.size))
    for turn in range(turns):
        directory = run.directory / f"turn-{turn}"
        directory.mkdir()
        counts = [WARM, *(MOST * tenths // 10 for _ in CONNECTIONS)]
        first = turn * sum(counts)
        callbacks = list(slices(directory, first, counts))
        numbers = range(first, first + sum(counts))
        fill(directory / "receiver.db", numbers, time.time())
        fill(long, numbers, time.time())
        for each in CONTENDERS:
            if each.name not in missing:
                try:
                    _turn(each, directory, long, callbacks, tenths / 10, runs)
                except Missing as what:
                    missing[each.name] = f"left out: {what} is not installed"
        shutil.rmtree(directory)
    figures = {"connections": CONNECTIONS, "turns": turns, "rows": ledger_rows(long), "left_out": missing}
    return Result({**figures, "runs": runs, **_medians(runs)}, _rows(runs, missing))


def long_ledger(directory: Path, tasks: int) -> Path:
    """A ledger with so many tasks that have ended, made once in a run of the command."""
    path = directory / f"long-{tasks}.db"
    if not path.exists():
        make(path, tasks)
    return path


def _at_rest(ledger: Path) -> Path:
    """A copy in which nothing is left to do: what is measured is what it costs to receive."""
    copy = ledger.with_name("at-rest.db")
    shutil.copy(ledger, copy)
    connection = connect(copy)
    connection.execute("update actions set state = 'done', due_at = null where state = 'owed'")
    connection.execute("update tasks set state = 'failed', settled = 1, check_at = null where settled = 0")
    connection.close()
    return copy


def ledger_rows(path: Path) -> dict[str, int]:
    tables = ("tasks", "deliveries", "events", "actions", "checks")
    return {table: int(str(rows(path, f"select count(*) from {table}")[0][0])) for table in tables}


def _turn(each: Contender, directory: Path, long: Path, callbacks: Sequence[Slice], seconds: float, runs: Runs) -> None:
    """Starts one, warms it up, and loads it with as many connections as shall be, one number after the other."""
    home = directory / each.name
    home.mkdir()
    ledger = home / "receiver.db"
    if each.ours:
        (home / "receiver.toml").write_text(SETTINGS)
        if each.filled:
            ledger.symlink_to(long)
        else:
            shutil.copy(directory / "receiver.db", ledger)
    with ExitStack() as stack:
        started = each.start(stack, home)
        at_rest = sum(map(resident, started.pids))
        warm, *measured = callbacks
        post(started.port, warm, CONNECTIONS[0], min(seconds, 0.5), started.path)
        for connections, wanted in zip(CONNECTIONS, measured, strict=True):
            before, kept = _used(started), _kept(ledger) if each.ours else 0
            loaded = post(started.port, wanted, connections, seconds, started.path)
            seen = {**loaded._asdict(), "rate": loaded.rate, "repeated": max(0, loaded.requests - wanted.many)}
            cpu = max(_used(started) - before, 1 / TICKS)  # the system counts no smaller pieces
            seen["cpu_us"] = cpu / max(1, loaded.requests) * 1e6
            seen |= {"at_rest_mib": at_rest, "most_mib": sum(resident(pid, "VmHWM") for pid in started.pids)}
            if each.ours:
                seen["kept"] = _kept(ledger) - kept
                _hold(loaded, seen)
            runs.setdefault(each.name, {}).setdefault(connections, []).append(seen)


def _hold(loaded: Loaded, seen: dict[str, float]) -> None:
    """What was answered is kept: a figure for anything less would be worth nothing."""
    answered = loaded.requests - loaded.refused - seen["repeated"]
    assert seen["kept"] >= answered, f"{answered} callbacks were answered 200, and {seen['kept']:.0f} are kept"


def _used(started: Started) -> float:
    return sum(map(used, started.pids))


def _kept(ledger: Path) -> int:
    return int(str(rows(ledger, "select coalesce(max(id), 0) from deliveries")[0][0]))


# ---------------------------------------------------------------- what comes of it


def _medians(runs: Runs) -> dict[str, Any]:
    """By contender and connections: the medians, and those of the shares of the bare route in the same turn."""
    found: dict[str, Any] = {}
    for name, by_connections in runs.items():
        for connections, seen in by_connections.items():
            bare = runs[BARE.name][connections]
            figures = {what: statistics.median(each[what] for each in seen) for what in seen[0]}
            for what in ("rate", "cpu_us"):
                shares = [each[what] / of[what] for each, of in zip(seen, bare, strict=False)]
                figures[f"{what}_ratio"] = statistics.median(shares)
                figures[f"{what}_ratio_least"], figures[f"{what}_ratio_most"] = min(shares), max(shares)
            found.setdefault(name, {})[str(connections)] = figures
    return found


def _rows(runs: Runs, missing: dict[str, str]) -> list[Row]:
    found, made = _medians(runs), []
    for connections in CONNECTIONS:
        made.append(
            (f"at {connections} connections", "of the bare route", "rate, p50 / p99, processor (x bare), memory")
        )
        for each in CONTENDERS:
            if each.name in missing:
                made.append((f"  {each.about}", "-", missing[each.name]))
            elif each.name in found:
                made.append((f"  {each.about}", *_said(found[each.name][str(connections)])))
    return made


def _said(seen: dict[str, float]) -> tuple[str, str]:
    remark = (
        f"{seen['rate']:,.0f}/s, {seen['p50_ms']:.1f} / {seen['p99_ms']:.1f} ms, "
        f"{seen['cpu_us']:.0f} us ({seen['cpu_us_ratio']:.2f} x), "
        f"{seen['at_rest_mib']:.0f} to {seen['most_mib']:.0f} MiB"
    )
    for what in ("refused", "broken"):
        remark += f", {seen[what]:.0f} {what}" if seen[what] else ""
    return f"{seen['rate_ratio']:.3f}", remark
