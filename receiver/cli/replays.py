"""`receiver replay`: owing many actions again, seeing how far that is, and stopping it."""

import math
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import (
    ACTION_STATES,
    EVENT_STATES,
    REPLAY_MODES,
    gather,
    is_for_subcommand,
    json_option,
    narrowing,
    when,
)
from receiver.cli.outcome import Ended
from receiver.cli.show import document, fields, moment, note, table
from receiver.cli.waiting import count_bar

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import ReplayView


@click.group(invoke_without_command=True)
@click.option("--mode", type=click.Choice(REPLAY_MODES), default="retry", show_default=True, help="What is replayed.")
@click.option("--action-state", multiple=True, type=click.Choice(ACTION_STATES), help="Only actions in these states.")
@click.option("--task-state", multiple=True, type=click.Choice(EVENT_STATES), help="Only tasks that ended so.")
@click.option("--name", metavar="NAME", help="Only this definition.")
@click.option("--task", metavar="ID", help="Only this task.")
@click.option("--since", type=when, metavar="WHEN", help="Not before: 2h ago, or 2026-11-22T08:00:00Z.")
@click.option("--until", type=when, metavar="WHEN", help="Before: 30m ago, or 2026-11-22T08:00:00Z.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Actions per second.  [default: all at once]")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--wait", is_flag=True, help="Return when all of them have ended; exit 1 when any is dead.")
@json_option
def replay(
    mode: str, rate: float | None, dry_run: bool, wait: bool, as_json: bool, **narrow: str | tuple[str, ...]
) -> None:
    """Do actions again, or look at such a replay.

    Mode retry takes up the same actions with fresh tries (the dead ones, unless --action-state says otherwise); again
    owes today's definitions once more for tasks that ended; missing owes only what an ended task has no action of;
    reprocess reads kept callbacks anew, for a receiver that has learned to read them.

    \b
    Examples:
      receiver replay --name notify-team --since 1d --dry-run
      receiver replay --mode missing --rate 5 --wait
      receiver replay list
      receiver replay show 3
      receiver replay cancel 3
      receiver replay resume 3
    """
    if is_for_subcommand():
        return
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in narrow.items() if value}
    if mode == "again" and not wanted and not dry_run:
        raise click.UsageError("again repeats every effect of every task; narrow it, such as --since 1d")
    if rate is not None and not math.isfinite(rate):
        raise click.UsageError("--rate: expected a finite number")
    with connect() as client:
        made = client.replay(wanted, mode=mode, dry_run=dry_run, rate=rate)
        if wait and made.id is not None:
            note(f"replay {made.id}")  # known even when the server goes away meanwhile
            made = _follow(client, made.id)
    if as_json:
        document(made)
    elif made.dry_run:
        click.echo(f"{made.matched} would be {'read anew' if mode == 'reprocess' else 'owed again'}")
    else:
        _show(made, as_json=False)
        if made.state == "running":
            note(f"see how far it is: receiver replay show {made.id}")
    _end(made, wait)


@replay.command("list")
@narrowing()
def list_(everything: bool, as_json: bool, **given: object) -> None:
    """List replays, newest first.

    \b
    Example:
      receiver replay list
    """
    with connect() as client:
        page = gather(client, client.replays, everything, given)
    if as_json:
        document(page)
    elif not page.items:
        note("no replays")
    else:
        rows = [
            (
                each.id,
                each.mode,
                each.state,
                each.matched,
                each.done,
                each.dead,
                each.cancelled,
                moment(each.created_at),
            )
            for each in page.items
        ]
        table(("id", "mode", "state", "matched", "ended", "dead", "cancelled", "began (UTC)"), rows)


@replay.command()
@click.argument("replay_id", metavar="ID", type=int)
@click.option("--wait", is_flag=True, help="Return when all of it has ended; exit 1 when any is dead.")
@json_option
def show(replay_id: int, wait: bool, as_json: bool) -> None:
    """Show how far a replay is.

    \b
    Example:
      receiver replay show 3 --wait
    """
    with connect() as client:
        shown = _follow(client, replay_id) if wait else client.replay_state(replay_id)
    _show(shown, as_json)
    _end(shown, wait)


@replay.command()
@click.argument("replay_id", metavar="ID", type=int)
@json_option
def resume(replay_id: int, as_json: bool) -> None:
    """Take up what was not begun when a replay was cancelled.

    \b
    Example:
      receiver replay resume 3
    """
    with connect() as client:
        _show(client.resume_replay(replay_id), as_json)


@replay.command()
@click.argument("replay_id", metavar="ID", type=int)
@json_option
def cancel(replay_id: int, as_json: bool) -> None:
    """Stop a replay: what it has not begun is as it was.

    \b
    Example:
      receiver replay cancel 3
    """
    with connect() as client:
        _show(client.cancel_replay(replay_id), as_json)


def _follow(client: "Client", replay_id: int) -> "ReplayView":
    try:
        with count_bar(f"replay {replay_id}") as tell:
            return client.wait_for_replay(replay_id, on_progress=lambda made: tell(made.done, made.matched))
    except KeyboardInterrupt:
        note(f"the replay goes on; to stop it: receiver replay cancel {replay_id}")
        raise


def _end(made: "ReplayView", waited: bool) -> None:
    if waited and made.dead:
        raise Ended(f"{made.dead} of {made.matched} are dead again; see receiver actions --state dead")


def _show(made: "ReplayView", as_json: bool) -> None:
    if as_json:
        document(made)
        return
    fields(
        [
            ("replay", made.id),
            ("mode", made.mode),
            ("state", made.state),
            ("ended", f"{made.done} of {made.matched}"),
            ("of them dead", made.dead or None),
            ("cancelled", made.cancelled or None),
            ("per second", made.rate),
            ("began (UTC)", moment(made.created_at)),
            ("finished (UTC)", moment(made.finished_at)),
        ]
    )
