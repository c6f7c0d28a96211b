"""`receiver status`: what waits, what is wrong, and what to do about it."""

from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.options import json_option
from receiver.cli.outcome import FAILED
from receiver.cli.show import answer, fields, paragraph
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.model.views import OverviewView

TASKS = {
    "queued": "queued here",
    "submitting": "being submitted",
    "submitted": "at RunningHub",
    "in_doubt": "in doubt: they may exist, and be billed",
    "lost": "lost: RunningHub does not know them",
}
ACTIONS = {"owed": "owed", "running": "running", "dead": "dead"}


@click.command()
@json_option
def status(as_json: bool) -> None:
    """Show what waits, what is wrong, and what to do about it. The exit code is 1 when the server is not ready.

    \b
    Example:
      receiver status
    """
    with connect() as client:
        found = client.status()
        answer(found, as_json, lambda found: _print(client.url, found))
    if not found.ready:
        click.get_current_context().exit(FAILED)


def _print(url: str, found: "OverviewView") -> None:
    fields(
        ("server", f"{url}, {'ready' if found.ready else 'NOT READY'}, version {found.version}"),
        ("callbacks", f"sent to {found.public_url}" if found.public_url else "none: RunningHub is polled"),
        ("tasks", _counts(found.tasks, TASKS, found.counted_to)),
        ("actions", _counts(found.actions, ACTIONS)),
        ("submitting", found.submits_again_at and f"rests until {moment(found.submits_again_at)} UTC"),
    )
    if not found.wrong:
        click.echo("\nNothing is wrong.")
        return
    click.echo("\nWrong")
    for each in found.wrong:
        paragraph(f"{f'alert {each.alert}, ' if each.alert else ''}{each.kind}: {each.message}", indent=2)
        paragraph(each.remedy, indent=4)
    if found.more_wrong:
        click.echo("  and more: receiver alerts --state open")


def _counts(counts: dict[str, int], words: dict[str, str], most: int | None = None) -> str:
    said = [
        f"{count}{' or more' if count == most else ''} {words.get(state, state)}"
        for state, count in counts.items()
        if count
    ]
    return ", ".join(said) or "none waits"
