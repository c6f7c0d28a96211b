"""The commands about what came and what is wrong: deliveries with their totals, raw bodies, alerts."""

import sys

import click

from receiver.cli.connect import connect
from receiver.cli.options import gather, is_for_subcommand, narrowing
from receiver.cli.show import clean, document, fields, moment, note, table


@click.group(invoke_without_command=True)
@narrowing("task")
def deliveries(everything: bool, as_json: bool, **given: object) -> None:
    """List the callbacks that came, newest first, and what was ever counted.

    \b
    Examples:
      receiver deliveries --since 1h
      receiver deliveries body 42 > callback.json
    """
    if is_for_subcommand():
        return
    with connect() as client:
        page = gather(client, client.deliveries, everything, given)
    if as_json:
        document(page)
        return
    if page.items:
        rows = [
            (
                each.id,
                moment(each.received_at),
                each.purpose,
                "contradicting" if each.contradicting else each.claim or each.problem,
                each.count,
                each.size,
                each.task,
            )
            for each in page.items
        ]
        table(("id", "received (UTC)", "for", "says", "times", "bytes", "task"), rows)
    else:
        note("no deliveries")
    if page.totals:
        click.echo("\nEver counted")
        fields((name.replace("_", " "), count) for name, count in page.totals.items())
    if page.next:
        note("there are more: --all, or a larger --limit")


@deliveries.command()
@click.argument("delivery_id", metavar="ID", type=int)
def body(delivery_id: int) -> None:
    """Print a callback's body as it came; on a terminal, without what a terminal would obey.

    \b
    Example:
      receiver deliveries body 42 > callback.json
    """
    with connect() as client:
        raw = client.delivery_body(delivery_id)
    if sys.stdout.isatty():
        click.echo(clean(raw.decode(errors="replace"), keep="\n\t"))
    else:
        click.echo(raw, nl=False)


@click.command()
@narrowing("alert_state", "alert_kind")
def alerts(everything: bool, as_json: bool, **given: object) -> None:
    """List what is wrong, or was: missed callbacks, dead actions, full disks.

    \b
    Example:
      receiver alerts --state open
    """
    with connect() as client:
        page = gather(client, client.alerts, everything, given)
    if as_json:
        document(page)
    elif not page.items:
        note("no alerts")
    else:
        rows = [
            (
                each.id,
                "closed" if each.closed_at else "open",
                each.kind,
                each.count,
                moment(each.last_at),
                each.message,
            )
            for each in page.items
        ]
        table(("id", "state", "kind", "times", "last (UTC)", "message"), rows)
        if page.next:
            note("there are more: --all, or a larger --limit")
