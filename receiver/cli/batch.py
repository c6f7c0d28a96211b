"""`receiver batch`: a file of orders, a task a line, seen through to its end and summed up."""

import hashlib
import os
import threading
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option, pair
from receiver.cli.outcome import FAILED, USED_WRONGLY, Ended
from receiver.cli.show import clean, document, fields, note
from receiver.cli.standing import ON_THEIR_WAY, standing

if TYPE_CHECKING:
    from receiver.cli.lines import BadLine, Common, Line
    from receiver.cli.tally import Report

NAME_LIMIT = 200
LINES_SHOWN = 10
BAD_LINES_SHOWN = 200
STDIN = "-"


def _name(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is not None and not (0 < len(value) <= NAME_LIMIT and value.isprintable() and value.strip()):
        raise click.BadParameter(f"expected 1 to {NAME_LIMIT} printable characters", ctx, param)
    return value


def _writable(ctx: click.Context, param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and not (value.parent.is_dir() and os.access(value.parent, os.W_OK)):
        raise click.BadParameter(f"{value.parent} is no directory that can be written to", ctx, param)
    return value


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE")
@click.option("--model", metavar="MODEL", help="The model of the lines that name none.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="An input of every line; may be repeated.")
@click.option(
    "--label", "labels", multiple=True, type=pair, metavar="NAME=VALUE", help="A label of every task; may be repeated."
)
@click.option(
    "--name", metavar="NAME", callback=_name, help="The label `batch`; under another name all is ordered anew."
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Orders sent at once.")
@click.option("--literal", is_flag=True, help="Leave {braces} in the file as they are.")
@click.option("--force", is_flag=True, help="Send the inputs unchecked, to any endpoint.")
@click.option("--dry-run", is_flag=True, help="Read and check the file, and order nothing.")
@click.option("--no-wait", is_flag=True, help="Order everything, and leave the rest to the server.")
@click.option(
    "--patience",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="For how long a server that is away is waited for.",
)
@click.option(
    "--doubt-patience",
    type=click.FloatRange(0),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="For how long tasks are waited for that may or may not exist, when all others have ended.",
)
@click.option(
    "--report",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_writable,
    metavar="FILE",
    help="Write the report with every line as JSON.",
)
@json_option
def batch(
    file: str,
    model: str | None,
    pairs: tuple[str, ...],
    labels: tuple[tuple[str, str], ...],
    name: str | None,
    concurrency: int,
    literal: bool,
    force: bool,
    dry_run: bool,
    no_wait: bool,
    patience: float,
    doubt_patience: float,
    path: Path | None,
    as_json: bool,
) -> None:
    """Order a task for every line of FILE, wait for all of them, and report. FILE may be - for standard input.

    JSONL: a line is an order, {"target": …, "input": {…}, "labels": {…}, "kind": …}, or with --model an input alone.
    CSV: the header names parameters; the columns target and label.NAME are special, an empty cell is left out, and
    cells have the types that the model's parameters have.

    {COLUMN} in texts of the file, in --set and in --label stands for the line's own field, {line} for its number, and
    {{ and }} for braces. A field whose name begins with _ is for templates only. --set and --label win over the file.

    Every line is checked before the first is sent. The same command again, after an interruption or with an edited
    file, orders only what is new. The exit code is 0 when every line succeeded.

    \b
    Examples:
      receiver batch orders.jsonl --report report.json
      receiver batch prompts.csv --model alibaba/qwen-image-2.0/text-to-image --set prompt="{_subject}, at dusk"
      receiver batch orders.csv --label project=north --dry-run
    """
    from receiver.cli.lines import Common

    common = Common(
        batch=name or _usual_name(file),
        model=model,
        pairs=pairs,
        labels=dict(labels),
        checked=not force,
        literal=literal,
        anew=hashlib.sha256(name.encode()).hexdigest()[:16] if name else "",
    )
    lines = _read(file, common)
    if dry_run:
        _show_orders(lines, common, as_json)
        return
    report = _perform(lines, common, concurrency, not no_wait, patience, doubt_patience, path)
    if as_json:
        document(report)
    else:
        _show_report(report)
    fine = report.counts.get("succeeded", 0)
    if no_wait:
        fine += sum(report.counts.get(state, 0) for state in ON_THEIR_WAY)
    if fine != report.lines:
        click.get_current_context().exit(FAILED)


def _usual_name(file: str) -> str:
    """The same for the same file, whenever it is read, and whatever it holds."""
    place = os.path.abspath(file)
    base = "stdin" if file == STDIN else os.path.basename(place)
    told = "".join(each if each.isprintable() else "?" for each in base.encode(errors="replace").decode())
    return f"{told[:100]}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def _read(file: str, common: "Common") -> "list[Line]":
    """The orders of a file. Raises Ended with every line that is none."""
    from receiver.cli.lines import is_csv, read_lines

    with click.open_file(file, "rb") as opened:
        content = opened.read()
    lines, bad = read_lines(content, common, csv=is_csv(file, content))
    if bad:
        told = [each for line in bad[:BAD_LINES_SHOWN] for each in _told(line)]
        if len(bad) > BAD_LINES_SHOWN:
            told.append(f"  and {len(bad) - BAD_LINES_SHOWN} more")
        raise Ended(f"nothing was ordered: {len(bad)} of {len(bad) + len(lines)} lines are wrong", USED_WRONGLY, told)
    if not lines:
        raise Ended(f"{file} has no lines", USED_WRONGLY)
    return lines


def _told(line: "BadLine") -> list[str]:
    return [
        f"  line {line.number}: {path}: {text}" if path else f"  line {line.number}: {text}"
        for path, text in line.problems
    ]


def _show_orders(lines: "list[Line]", common: "Common", as_json: bool) -> None:
    if as_json:
        orders = [
            {
                "line": line.number,
                "key": line.key,
                "kind": line.order.kind,
                "api": line.order.api,
                "target": line.order.target,
                "input": line.order.input,
                "labels": line.order.labels,
            }
            for line in lines
        ]
        document({"batch": common.batch, "lines": len(lines), "orders": orders})
        return
    for target, count in Counter(line.order.target for line in lines).most_common():
        click.echo(clean(f"{count} of {target}"))
    note(f"{len(lines)} lines are right; nothing was ordered")


# ---------------------------------------------------------------- at work


def _perform(
    lines: "list[Line]",
    common: "Common",
    concurrency: int,
    follow: bool,
    patience: float,
    doubt_patience: float,
    path: Path | None,
) -> "Report":
    from receiver.cli.ordering import Batch, Patience
    from receiver.cli.tally import Tally

    tally, stop = Tally(common.batch, lines), threading.Event()
    try:
        with connect() as client, standing(len(lines)) as teller:

            def tell() -> None:
                teller(tally.counts(), waited.away)

            waited = Patience(patience, stop, tell)
            work = Batch(client, tally, waited, stop)
            work.run(
                lines, concurrency, tell, checked=common.checked, doubt_patience=doubt_patience if follow else None
            )
            work.refresh(for_files=follow)
    except KeyboardInterrupt:
        note("what was ordered goes on in the server; the same command again goes on from here")
        raise click.Abort from None
    finally:
        report = tally.report()
        if path is not None:
            _write(path, report)
    return report


def _write(path: Path, report: "Report") -> None:
    """The whole report or none of it."""
    import msgspec

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Ended(f"the report cannot be written: {error}") from error


def _show_report(report: "Report") -> None:
    counts = ((state.replace("_", " "), count) for state, count in report.counts.items())
    cost = ", ".join(f"{name} {amount}" for name, amount in report.cost.items())
    fields([("batch", report.batch), ("lines", report.lines), *counts, ("files saved", report.files), ("cost", cost)])
    for reason in report.reasons:
        named = ", ".join(map(str, reason.lines[:LINES_SHOWN]))
        more = f" and {len(reason.lines) - LINES_SHOWN} more" if len(reason.lines) > LINES_SHOWN else ""
        what = " ".join(part for part in (reason.state.replace("_", " "), reason.code) if part)
        said = f": {reason.message}" if reason.message else ""
        lines = "line" if len(reason.lines) == 1 else "lines"
        click.echo(clean(f"{len(reason.lines)} {what}{said} ({lines} {named}{more})"))
