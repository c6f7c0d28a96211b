"""`receiver replay`: runs many actions again, shows how far that is, and stops it."""

import math
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from receiver.cli.connect import connect
from receiver.cli.guesses import Guessed
from receiver.cli.options import REPLAY_MODES, filters, is_for_subcommand, json_option
from receiver.cli.outcome import Ended
from receiver.cli.shapes import about, listing
from receiver.cli.show import Row, answer, fields, note
from receiver.cli.waiting import count_bar
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from collections.abc import Callable

    from receiver.client import Client
    from receiver.model.views import ReplayView


def _print_replay(made: "ReplayView") -> None:
    if made.dry_run:
        click.echo(f"{made.matched} would be {'read anew' if made.mode == 'reprocess' else 'owed again'}")
        return
    fields(
        *(
            ("replay", made.id),
            ("mode", made.mode),
            ("state", "searching" if made.searching and made.state == "running" else made.state),
            ("ended", f"{made.done} of {made.matched}"),
        ),
        *(("of them dead", made.dead or None), ("cancelled", made.cancelled or None), ("per second", made.rate)),
        *(("began (UTC)", moment(made.created_at)), ("finished (UTC)", moment(made.finished_at))),
    )


@click.group(cls=Guessed, invoke_without_command=True)
@click.option("--mode", type=click.Choice(REPLAY_MODES), default="retry", show_default=True, help="What is replayed.")
@filters("replayed_actions", "replayed_tasks", "name", "task")
@click.option("--all", "everything", is_flag=True, help="Everything that the mode is about, instead of a choice.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Actions per second.  [default: all at once]")
@click.option("--dry-run", is_flag=True, help="Only say how many there are.")
@click.option("--expected", type=click.IntRange(min=0), help="Do nothing when another number matches.")
@click.option("--yes", is_flag=True, help="Do not ask. Only on a terminal is anybody asked.")
@click.option("--wait", is_flag=True, help="Wait until all of them have ended; exit 1 if any is dead.")
@json_option
def replay(
    mode: str,
    everything: bool,
    rate: float | None,
    dry_run: bool,
    expected: int | None,
    yes: bool,
    wait: bool,
    as_json: bool,
    **narrow: str | tuple[str, ...],
) -> None:
    """Run actions again, or work on an earlier replay. Say which ones, or --all.

    \b
    Modes:
      retry      the same actions, with new attempts: the dead ones,
                 unless --action-state is given
      again      today's definitions once more, for tasks that have ended
      missing    today's definitions, for ended tasks that have no action
                 of them yet
      reprocess  kept callbacks are read again, by a receiver that can
                 read more of them

    \b
    Examples:
      receiver replay --name notify-team --since 1d --dry-run
      receiver replay --mode missing --all --rate 5 --wait
      receiver replay list
      receiver replay show 3
      receiver replay cancel 3
      receiver replay resume 3
    """
    if is_for_subcommand():
        return
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in narrow.items() if value}
    if not (wanted or everything or dry_run):
        every = "every effect of every task" if mode == "again" else "everything"
        raise click.UsageError(f"this would replay {every}: narrow it, such as --name NAME --since 1d, or give --all")
    if wanted and everything:
        raise click.UsageError("--all goes without a choice: leave it or the other options out")
    if rate is not None and not math.isfinite(rate):
        raise click.UsageError("--rate: expected a finite number")
    with connect() as client:
        begin = partial(client.replay, mode=mode, rate=rate, all=everything)
        if dry_run or yes or as_json or expected is not None or not sys.stdin.isatty():
            made = begin(wanted, dry_run=dry_run, expected=expected)
        else:
            made = confirmed(begin, wanted)
        if wait and made.id is not None:
            note(f"replay {made.id}")  # known even when the server goes away meanwhile
            made = _follow(client, made.id)
    answer(made, as_json, _print_replay)
    if made.state == "running" and not as_json:
        note(f"see how far it is: receiver replay show {made.id}")
    _fail_if_dead(made, wait)


def confirmed(begin: "Callable[..., ReplayView]", wanted: "dict[str, Any]") -> "ReplayView":
    """Counts, asks, and replays just what was counted; counts again when that has changed meanwhile."""
    from receiver.client import ApiError

    while True:
        found = begin(wanted, dry_run=True)
        _print_replay(found)
        click.confirm("Go on?", abort=True, err=True)
        try:
            return begin({**wanted, "until": found.until}, all=False, expected=found.matched)
        except ApiError as problem:
            if problem.code != "another_count":
                raise
            note(problem.message)


@replay.command("list")
@listing(
    lambda client: client.replays, (), ("id", "mode", "state", "matched", "ended", "dead", "cancelled", "began (UTC)")
)
def replays(each: "ReplayView") -> Row:
    """List replays, newest first.

    \b
    Example:
      receiver replay list
    """
    counts = (each.matched, each.done, each.dead, each.cancelled)
    return each.id, each.mode, each.state, *counts, moment(each.created_at)


@replay.command()
@click.argument("replay_id", metavar="ID", type=int)
@click.option("--wait", is_flag=True, help="Wait until all of it has ended; exit 1 if any is dead.")
@json_option
def show(replay_id: int, wait: bool, as_json: bool) -> None:
    """Show one replay and how far it is.

    \b
    Example:
      receiver replay show 3 --wait
    """
    with connect() as client:
        found = _follow(client, replay_id) if wait else client.replay_state(replay_id)
    answer(found, as_json, _print_replay)
    _fail_if_dead(found, wait)


@about(int, _print_replay, "replay resume 3", group=replay)
def resume(client: "Client", replay_id: int) -> "ReplayView":
    """Continue a cancelled replay with the actions that it had not begun."""
    return client.resume_replay(replay_id)


@about(int, _print_replay, "replay cancel 3", group=replay)
def cancel(client: "Client", replay_id: int) -> "ReplayView":
    """Stop a replay. The actions that it has not begun stay as they were."""
    return client.cancel_replay(replay_id)


def _follow(client: "Client", replay_id: int) -> "ReplayView":
    try:
        with count_bar(f"replay {replay_id}") as tell:
            return client.wait_for_replay(replay_id, on_progress=lambda made: tell(made.done, made.matched))
    except KeyboardInterrupt:
        note(f"the replay goes on; to stop it: receiver replay cancel {replay_id}")
        raise


def _fail_if_dead(made: "ReplayView", waited: bool) -> None:
    if waited and made.dead:
        raise Ended(f"{made.dead} of {made.matched} are dead again; see receiver actions --state dead")
