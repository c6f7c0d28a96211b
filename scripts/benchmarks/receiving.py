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
from benchmarks.load import WARM, Slice, fill, post, slices
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
    """Every load of a server comes right after the same load of a bare route: other work on the machine hits both."""
    turns, tenths = run.scale.pick(3, 1, 1), run.scale.pick(20, 4, 4)
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
        with ExitStack() as stack:
            bare = BARE.start(stack, directory)
            for each in CONTENDERS:
                if each.name not in missing:
                    try:
                        _turn(each, bare, directory, long, callbacks, tenths / 10, runs)
                    except Missing as what:
                        missing[each.name] = f"left out: {what} is not installed"
        shutil.rmtree(directory)
    figures = {"connections": CONNECTIONS, "turns": turns, "long_ledger": ledger_rows(long), "left_out": missing}
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


def _turn(
    each: Contender,
    bare: Started,
    directory: Path,
    long: Path,
    callbacks: Sequence[Slice],
    seconds: float,
    runs: Runs,
) -> None:
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
            of = _loaded(bare, wanted, connections, seconds)
            kept = _kept(ledger) if each.ours else 0
            seen = _loaded(started, wanted, connections, seconds)
            seen |= {f"{what}_ratio": seen[what] / of[what] for what in ("rate", "cpu_us")}
            seen |= {"at_rest_mib": at_rest, "most_mib": sum(resident(pid, "VmHWM") for pid in started.pids)}
            if each.ours:
                _hold(seen, _kept(ledger) - kept)
            runs.setdefault(each.name, {}).setdefault(connections, []).append(seen)


def _loaded(started: Started, wanted: Slice, connections: int, seconds: float) -> dict[str, float]:
    before = sum(map(used, started.pids))
    loaded = post(started.port, wanted, connections, seconds, started.path)
    cpu = max(sum(map(used, started.pids)) - before, 1 / TICKS)  # the system counts no smaller pieces
    more = {"rate": loaded.rate, "repeated": max(0, loaded.requests - wanted.many)}
    return {**loaded._asdict(), **more, "cpu_us": cpu / loaded.requests * 1e6}


def _hold(seen: dict[str, float], kept: int) -> None:
    """What was answered is kept: a figure for anything less would be worth nothing."""
    answered = seen["requests"] - seen["refused"] - seen["repeated"]
    assert kept >= answered, f"{answered:.0f} callbacks were answered 200, and {kept} are kept"


def _kept(ledger: Path) -> int:
    return int(str(rows(ledger, "select coalesce(max(id), 0) from deliveries")[0][0]))


# ---------------------------------------------------------------- what comes of it


def _medians(runs: Runs) -> dict[str, Any]:
    """By contender and connections: the medians of the turns, and between what the shares of the bare route lay."""
    found: dict[str, Any] = {}
    for name, by_connections in runs.items():
        for connections, seen in by_connections.items():
            figures = {what: statistics.median(each[what] for each in seen) for what in seen[0]}
            shares = [each["rate_ratio"] for each in seen]
            figures |= {"rate_ratio_least": min(shares), "rate_ratio_most": max(shares)}
            found.setdefault(name, {})[str(connections)] = figures
    return found


def _rows(runs: Runs, missing: dict[str, str]) -> list[Row]:
    found, made = _medians(runs), []
    for connections in CONNECTIONS:
        head = f"at {connections} connections, beside a Starlette route that reads the body and answers 200"
        made.append((head, "share", "rate, p50 / p99, processor (x the bare route's), memory"))
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
