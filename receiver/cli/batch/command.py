"""`receiver batch`: a file of orders, a task a line, seen through to its end and summed up."""

import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from receiver.cli.batch.progress import ON_THEIR_WAY, count_of, shown_progress
from receiver.cli.connect import connect
from receiver.cli.options import expecting, files_from_option, folder_of, json_option, label_option
from receiver.cli.outcome import FAILED, USED_WRONGLY, Ended
from receiver.cli.show import answer, clean, document, fields, note
from receiver.cli.waiting import count_bar

if TYPE_CHECKING:
    from receiver.cli.batch.contents import AttachedFile
    from receiver.cli.batch.lines import BadLine, BatchLine
    from receiver.cli.batch.rows import Common
    from receiver.cli.batch.tally import Report

F = TypeVar("F", bound=Callable[..., object])

NAME_LIMIT = 200
LINES_SHOWN = 10
BAD_LINES_SHOWN = 200
STDIN = "-"
REPORT = click.Path(dir_okay=False, path_type=Path)
DOUBT = "For how long tasks are waited for that may or may not exist, when all others have ended."


@expecting(f"expected 1 to {NAME_LIMIT} printable characters")
def _name(text: str) -> bool:
    return 0 < len(text) <= NAME_LIMIT and text.isprintable() and bool(text.strip())


@expecting("{0.parent} is no directory that can be written to")
def _writable(path: Path) -> bool:
    return path.parent.is_dir() and os.access(path.parent, os.W_OK)


def _seconds(option: str, usual: float, help: str) -> Callable[[F], F]:
    of = click.FloatRange(0)
    return click.option(option, type=of, default=usual, show_default=True, metavar="SECONDS", help=help)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True), metavar="FILE")
@click.option("--model", metavar="MODEL", help="The model of the lines that name none.")
@click.option("--set", "pairs", multiple=True, metavar="KEY=VALUE", help="An input of every line; may be repeated.")
@label_option("A label of every task; may be repeated.")
@click.option(
    "--name", metavar="NAME", callback=_name, help="The label `batch`; under another name all is ordered anew."
)
@click.option("--concurrency", type=click.IntRange(1, 64), default=8, show_default=True, help="Orders sent at once.")
@click.option("--literal", is_flag=True, help="Take the file's texts as they are: {braces} and @ mean nothing there.")
@files_from_option
@click.option("--force", is_flag=True, help="Send the inputs unchecked, to any endpoint.")
@click.option("--dry-run", is_flag=True, help="Read and check the file, and order nothing.")
@click.option("--retry-failed", is_flag=True, help="Order lines again whose tasks failed or were rejected before.")
@click.option("--no-wait", is_flag=True, help="Order everything, and leave the rest to the server.")
@_seconds("--patience", 300.0, "For how long a server that is away is waited for.")
@_seconds("--doubt-patience", 900.0, DOUBT)
@click.option(
    "--report", type=REPORT, callback=_writable, metavar="FILE", help="Write the report with every line as JSON."
)
@json_option
def batch(
    file: str,
    model: str | None,
    pairs: tuple[str, ...],
    label: dict[str, str],
    name: str | None,
    concurrency: int,
    literal: bool,
    files_from: tuple[Path, ...],
    force: bool,
    dry_run: bool,
    retry_failed: bool,
    no_wait: bool,
    patience: float,
    doubt_patience: float,
    report: Path | None,
    as_json: bool,
) -> None:
    """Order a task for every line of FILE, wait for all of them, and report. FILE may be - for standard input.

    JSONL: a line is an order, {"target": …, "input": {…}, "labels": {…}, "kind": …}, or with --model an input alone.
    CSV: the header names parameters; the columns target and label.NAME are special, an empty cell is left out, and
    cells have the types that the model's parameters have.

    {COLUMN} in texts of the file, in --set and in --label stands for the line's own field, {line} for its number, and
    {{ and }} for braces. A field whose name begins with _ is for templates only. --set and --label win over the file.

    Where a file is expected, @PATH names one, seen from the working directory; @@TEXT is the text @TEXT. It must be
    below the folder of FILE, or below a DIR of --files-from, and not hidden. Each file is uploaded once, when the first
    order needs it, and counts by its content: an edited file makes a new order.

    Every line is checked before the first is sent. The same command again, after an interruption or with an edited
    file, orders only what is new; with --retry-failed also, once more, what failed in an earlier run. The exit code is
    0 when every line succeeded.

    \b
    Examples:
      receiver batch orders.jsonl --report report.json
      receiver batch prompts.csv --model alibaba/qwen-image-2.0/text-to-image \\
          --set prompt="{_subject}, at dusk"
      receiver batch orders.csv --label project=north --dry-run
      receiver batch shots.csv --model vidu/image-to-video-q3-pro-fast \\
          --set imageUrl="@photos/{_name}.jpg"
    """
    from receiver.cli.batch.rows import Common

    usual, anew = name or _usual_name(file), hashlib.sha256(name.encode()).hexdigest()[:16] if name else ""
    common = Common(
        batch=usual,
        model=model,
        pairs=pairs,
        labels=label,
        checked=not force,
        literal=literal,
        anew=anew,
        folders=(folder_of(file), *files_from),
    )
    lines = _read(file, common)
    if dry_run:
        _show_orders(lines, common, as_json)
        return
    doubt = None if no_wait else doubt_patience
    made = _reported(lines, common, concurrency, patience, doubt, report, retry=retry_failed)
    answer(made, as_json, _show_report)
    fine = ("succeeded", *ON_THEIR_WAY) if no_wait else ("succeeded",)
    if count_of(made.counts, fine) != made.lines:
        click.get_current_context().exit(FAILED)


def _usual_name(file: str) -> str:
    """A batch's name when none is given: that of its file, and a part that stands for the file's whole path."""
    place = os.path.abspath(file)
    base = "stdin" if file == STDIN else os.path.basename(place)
    shown = "".join(each if each.isprintable() else "?" for each in base.encode(errors="replace").decode())
    return f"{shown[:100]}-{hashlib.sha256(os.fsencode(place)).hexdigest()[:8]}"


def _read(file: str, common: "Common") -> "list[BatchLine]":
    """The orders of a file. Raises Ended with every line that is wrong."""
    from receiver.cli.batch.contents import contents
    from receiver.cli.batch.lines import read_drafts, with_keys
    from receiver.cli.batch.rows import is_csv

    with click.open_file(file, "rb") as opened:
        content = opened.read()
    drafts, bad = read_drafts(content, common, csv=is_csv(file, content))
    _end_if_wrong(bad, len(drafts))
    if not drafts:
        raise Ended(f"{file} has no lines", USED_WRONGLY)
    known = {}
    if paths := [file.path for draft in drafts for file in draft.written.files]:
        with count_bar("reading the files that the lines name") as tell:
            known = contents(paths, tell)
    lines, bad = with_keys(drafts, common, known)
    _end_if_wrong(bad, len(lines))
    return lines


def _end_if_wrong(bad: "list[BadLine]", right: int) -> None:
    """Raises Ended with what is wrong with each line, when any line is wrong."""
    if not bad:
        return
    shown = [
        f"  line {line.number}: {f'{path}: ' if path else ''}{problem}"
        for line in bad[:BAD_LINES_SHOWN]
        for path, problem in line.problems
    ]
    if len(bad) > BAD_LINES_SHOWN:
        shown.append(f"  and {len(bad) - BAD_LINES_SHOWN} more")
    raise Ended(f"nothing was ordered: {len(bad)} of {len(bad) + right} lines are wrong", USED_WRONGLY, shown)


def _show_orders(lines: "list[BatchLine]", common: "Common", as_json: bool) -> None:
    files = _files_of(lines)
    if as_json:
        shown = ("kind", "api", "target", "input", "labels")
        orders = [
            {"line": line.number, "key": line.key, **{name: getattr(line.order, name) for name in shown}}
            for line in lines
        ]
        named = [
            {"id": each.id, "path": str(each.path), "size": each.size, "lines": numbers} for each, numbers in files
        ]
        document({"batch": common.batch, "lines": len(lines), "orders": orders, "files": named})
        return
    for target, count in Counter(line.order.target for line in lines).most_common():
        click.echo(clean(f"{count} of {target}"))
    for file, numbers in files:
        click.echo(clean(f"would upload {file.path} ({file.size} bytes) for {_listed(numbers)}"))
    rest = "nothing was ordered or uploaded; what RunningHub has from the last 23 hours is not uploaded again"
    note(f"{len(lines)} lines are right; {rest if files else 'nothing was ordered'}")


def _files_of(lines: "list[BatchLine]") -> "list[tuple[AttachedFile, list[int]]]":
    """Every file that lines name, by its content, under the first path it has, and the numbers of the lines."""
    found: dict[str, tuple[AttachedFile, list[int]]] = {}
    for line in lines:
        for file in {file.id: file for file in line.files}.values():
            found.setdefault(file.id, (file, []))[1].append(line.number)
    return [*found.values()]


def _listed(numbers: list[int]) -> str:
    """Lines by their numbers, the first ten of them."""
    named = ", ".join(map(str, numbers[:LINES_SHOWN]))
    more = f" and {len(numbers) - LINES_SHOWN} more" if len(numbers) > LINES_SHOWN else ""
    return f"{'line' if len(numbers) == 1 else 'lines'} {named}{more}"


def _reported(
    lines: "list[BatchLine]",
    common: "Common",
    threads: int,
    patience: float,
    doubt: float | None,
    path: Path | None,
    *,
    retry: bool,
) -> "Report":
    """Orders all lines, and reports what became of them, whatever ends it. With None for `doubt` none is awaited."""
    from receiver.cli.batch.run import Batch
    from receiver.cli.batch.tally import Tally
    from receiver.client.patience import Patience

    tally = Tally(common.batch, lines)
    try:
        with connect() as client, shown_progress(len(lines)) as teller:

            def tell() -> None:
                teller(tally.counts(), waited.away, work.uploads.under_way())

            waited = Patience(patience, threading.Event(), tell)
            work = Batch(client, tally, waited, checked=common.checked, retry=retry)
            work.run(lines, threads, tell, doubt)
            work.refresh(for_files=doubt is not None)
    except KeyboardInterrupt:
        note("what was ordered goes on in the server; the same command again goes on from here")
        raise click.Abort from None
    finally:
        report = tally.report()
        if path is not None:
            _write(path, report)
    return report


def _write(path: Path, report: "Report") -> None:
    """Writes the whole report or none of it."""
    import msgspec

    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise Ended(f"the report cannot be written: {error}") from error


def _show_report(report: "Report") -> None:
    from receiver.cli.batch.tally import spent

    counts = [(state.replace("_", " "), count) for state, count in report.counts.items()]
    cost, earlier = (
        ", ".join(f"{name} {amount}" for name, amount in spent(each).items())
        for each in (report.cost, report.earlier_cost)
    )
    there = sum(each.task is not None and not each.new for each in report.tasks)
    orders = [("ordered now", report.new), ("were there", there)]
    costs = [("cost", cost), ("paid before", earlier)]
    fields(("batch", report.batch), ("lines", report.lines), *orders, *counts, ("files saved", report.files), *costs)
    for reason in report.reasons:
        what = f"{reason.state.replace('_', ' ')} {reason.code}".strip()
        why = f": {reason.message}" if reason.message else ""
        click.echo(clean(f"{len(reason.lines)} {what}{why} ({_listed(reason.lines)}); {reason.again}"))
    for told, count in Counter(each.note for each in report.tasks if each.note).items():
        note(f"{count} lines: {told}")
