"""`receiver prune`: removes what is older than it is kept, now instead of within the hour."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.guesses import Guessed
from receiver.cli.options import is_for_subcommand, json_option
from receiver.cli.outcome import Ended
from receiver.cli.show import answer, note, table
from receiver.cli.waiting import spinner
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import PruneView

HEADERS = ("kind", "days", "rows", "bytes", "rows ever", "bytes ever", "since (UTC)")


def _print(found: "PruneView") -> None:
    if not found.items:
        note("nothing is ever removed: every setting of [keep] is 0")
        return
    went = "would go" if found.dry_run else "went"
    headers = [f"{name} {went}" if name in ("rows", "bytes") else name for name in HEADERS]
    table(
        headers,
        [
            (each.kind, f"{each.days:g}", each.rows, each.bytes, each.rows_ever, each.bytes_ever, moment(each.first_at))
            for each in found.items
        ],
    )
    if found.state == "running":
        note("it goes on; to stop it: receiver prune stop")


@click.group(cls=Guessed, invoke_without_command=True)
@click.option("--dry-run", is_flag=True, help="Only count what would go, by kind.")
@json_option
def prune(dry_run: bool, as_json: bool) -> None:
    """Remove what is older than [keep] in the settings says, which the server does once an hour.

    Unfinished work never goes, and no result file does. Ctrl-C stops it; what was not removed yet is kept.

    \b
    Examples:
      receiver prune --dry-run
      receiver prune
      receiver prune show
      receiver prune stop
    """
    if is_for_subcommand():
        return
    with connect() as client:
        found = _done(client, dry_run=dry_run)
    answer(found, as_json, _print)
    if found.state != "done":
        raise Ended(f"pruning ended early: {found.problem or found.state}")


@prune.command()
@json_option
def show(as_json: bool) -> None:
    """Show how far it is, or what the last run did, and what was ever removed.

    \b
    Example:
      receiver prune show
    """
    with connect() as client:
        answer(client.pruning(), as_json, _print)


@prune.command()
@json_option
def stop(as_json: bool) -> None:
    """Stop a run that goes on. What was not removed yet is kept until the next run.

    \b
    Example:
      receiver prune stop
    """
    with connect() as client:
        answer(client.stop_pruning(), as_json, _print)


def _done(client: "Client", *, dry_run: bool) -> "PruneView":
    """The run, when it is over."""
    try:
        with spinner("looking for what is old") as tell:
            found = client.prune(dry_run=dry_run)
            if found.state != "running":
                return found
            return client.wait_for_pruning(on_progress=lambda found: tell(_so_far(found)))
    except KeyboardInterrupt:
        client.stop_pruning()
        note("stopped; what was not removed yet is kept until the next run")
        raise


def _so_far(found: "PruneView") -> str:
    rows = ", ".join(f"{each.rows} {each.kind}" for each in found.items if each.rows)
    return f"{'found' if found.dry_run else 'removed'} {rows or 'nothing'} so far"
