"""The command line of scripts/bench."""

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
import uvloop

from benchmarks import actions, idle, lists, overload, pipeline, prune, receiving, replays, starting, stream, sweep
from benchmarks.machine import machine
from benchmarks.measuring import MEASUREMENTS, Measurement, Row, Run, Scale
from receiver.web.door import raise_file_limit

ALL = (receiving, overload, pipeline, sweep, lists, starting, idle, actions, prune, replays, stream)
"""Where the measurements are, in their order; importing them makes them known."""


def parser(about: str) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    _options(made, Scale.FULL)
    made.add_argument("--rows", type=int, help="tasks in the long ledger")
    chosen = made.add_subparsers(dest="measurement", metavar="MEASUREMENT")
    for each in MEASUREMENTS.values():
        one = chosen.add_parser(each.name, help=each.about, description=each.about)
        # Absent here means: as it was said before the name.
        _options(one, argparse.SUPPRESS)
        one.add_argument(f"--{each.option}", dest="size", type=int, help=f"default {each.sizes[0]}")
    return made


def _options(made: argparse.ArgumentParser, scale: object) -> None:
    which = made.add_mutually_exclusive_group()
    for each, text in (
        (Scale.QUICK, "under a minute in all, figures of little weight"),
        (Scale.LEAST, "the smallest sizes, which show only that everything runs"),
    ):
        which.add_argument(f"--{each}", dest="scale", action="store_const", const=each, default=scale, help=text)
    none = argparse.SUPPRESS if scale is argparse.SUPPRESS else None
    made.add_argument("--json", type=Path, default=none, help="write all figures to this file")


def main(argv: Sequence[str], about: str) -> int:
    given = parser(about).parse_args(argv)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    if given.measurement is None:
        whole = [
            each for module in ALL for each in MEASUREMENTS.values() if each.whole and each.module == module.__name__
        ]
        wanted = {each: given.rows if each.option == "rows" else None for each in whole}
    else:
        wanted = {MEASUREMENTS[given.measurement]: given.size}
    raise_file_limit()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what was started is ended on the way
    report: dict[str, Any] = {"machine": machine(), "scale": str(given.scale)}
    print("\n".join(f"{what}: {value}" for what, value in report["machine"].items()), flush=True)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        for each, size in wanted.items():
            report[each.name] = _measured(each, size, given.scale, Path(directory))
            if given.json is not None:  # what was measured is kept, whatever happens to the rest
                given.json.write_text(json.dumps(report, indent=2) + "\n")
    return 0


def _measured(each: Measurement, size: int | None, scale: Scale, directory: Path) -> dict[str, Any]:
    size = scale.pick(*each.sizes) if size is None else size
    print(f"\n{each.name}: {each.about} ({each.option} {size:,})", flush=True)
    begun = time.monotonic()
    result = uvloop.run(each.work(Run(size, scale, directory)))  # as the server does
    table(result.rows)
    took = time.monotonic() - begun
    print(f"measured in {took:.0f} s", flush=True)
    return {each.option: size, "seconds": took, **result.figures}


def table(rows: Sequence[Row]) -> None:
    widths = [max((len(row[place]) for row in rows), default=0) for place in range(3)]
    for what, figure, ratio in rows:
        print(f"  {what:<{widths[0]}}  {figure:>{widths[1]}}  {ratio:<{widths[2]}}".rstrip())
    sys.stdout.flush()
