"""`receiver replay`: owing many actions again, seeing how far that is, and stopping it."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import ACTION_STATES, EVENT_STATES, REPLAY_MODES, is_for_subcommand, json_option, when
from receiver.cli.show import document, fields, moment, note

if TYPE_CHECKING:
    from receiver.views import ReplayView


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
@json_option
def replay(mode: str, rate: float | None, dry_run: bool, as_json: bool, **narrow: str | tuple[str, ...]) -> None:
    """Do actions again, or look at such a replay.

    Mode retry takes up the same actions with fresh tries (the dead ones, unless --action-state says otherwise); again
    owes today's definitions once more for tasks that ended; missing owes only what an ended task has no action of.

    \b
    Examples:
      receiver replay --name notify-team --since 1d --dry-run
      receiver replay --mode missing --rate 5
      receiver replay show 3
      receiver replay cancel 3
    """
    if is_for_subcommand():
        return
    wanted = {name: list(value) if isinstance(value, tuple) else value for name, value in narrow.items() if value}
    if mode == "again" and not wanted and not dry_run:
        raise click.UsageError("again repeats every effect of every task; narrow it, such as --since 1d")
    with connect() as client:
        made = client.replay(wanted, mode=mode, dry_run=dry_run, rate=rate)
    if as_json:
        document(made)
    elif made.dry_run:
        click.echo(f"{made.matched} would be owed again")
    else:
        _show(made, as_json=False)
        note(f"see how far it is: receiver replay show {made.id}")


@replay.command()
@click.argument("replay_id", metavar="ID", type=int)
@json_option
def show(replay_id: int, as_json: bool) -> None:
    """Show how far a replay is.

    \b
    Example:
      receiver replay show 3
    """
    with connect() as client:
        _show(client.replay_state(replay_id), as_json)


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


def _show(made: "ReplayView", as_json: bool) -> None:
    if as_json:
        document(made)
        return
    fields(
        [
            ("replay", made.id),
            ("mode", made.mode),
            ("state", made.state),
            ("done", f"{made.done} of {made.matched}"),
            ("per second", made.rate),
            ("began (UTC)", moment(made.created_at)),
            ("finished (UTC)", moment(made.finished_at)),
        ]
    )
