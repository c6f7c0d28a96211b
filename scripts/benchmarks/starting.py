"""How soon a command answers and a server serves."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.contenders import OURS
from benchmarks.machine import resident
from benchmarks.measuring import Result, Run, measurement
from benchmarks.receiving import SETTINGS, long_ledger


@measurement("from a command to its first answer", whole=True, rows=(1_000_000, 20_000, 500))
async def starting(run: Run) -> Result:
    times = run.scale.pick(5, 3, 1)
    long = long_ledger(run.directory, run.size)
    memory: dict[str, float] = {}

    def serve(what: str, ledger: Path | None) -> Callable[[Path], None]:
        def served(home: Path) -> None:
            (home / "receiver.toml").write_text(SETTINGS)
            if ledger is not None:
                (home / "receiver.db").symlink_to(ledger)
            with ExitStack() as stack:
                began = time.perf_counter()
                pid = OURS.start(stack, home).pids[0]
                took[what].append(time.perf_counter() - began)
                memory[what] = resident(pid)

        return served

    def ask(*argv: str) -> Callable[[Path], None]:
        def asked(home: Path) -> None:
            began = time.perf_counter()
            subprocess.run([*RECEIVER, *argv], cwd=home, check=True, capture_output=True)
            took[" ".join(argv)].append(time.perf_counter() - began)

        return asked

    wanted = {
        "--help": ask("--help"),
        "--version": ask("--version"),
        "serve": serve("serve", None),
        "serve_long": serve("serve_long", long),
    }
    took: dict[str, list[float]] = {what: [] for what in wanted}
    for turn in range(times):
        for what, act in wanted.items():
            home = run.directory / f"start-{what}-{turn}"
            home.mkdir()
            act(home)
    medians = {what: statistics.median(seen) for what, seen in took.items()}
    named = {
        "--help": "receiver --help",
        "--version": "receiver --version",
        "serve": "a server on a new ledger answers",
        "serve_long": f"a server on a ledger of {run.size:,} tasks answers",
    }
    rows = [
        (text, f"{medians[what] * 1000:.0f} ms", f"{memory[what]:.0f} MiB" if what in memory else "")
        for what, text in named.items()
    ]
    return Result({"median_seconds": medians, "memory_mib": memory, "runs": took}, rows)


RECEIVER = (sys.executable, "-m", "receiver")
