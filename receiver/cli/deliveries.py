"""`receiver deliveries`: the callbacks that were received, their raw bodies, and the totals."""

import sys
from typing import TYPE_CHECKING

import click

from receiver.cli.connect import connect
from receiver.cli.shapes import list_group
from receiver.cli.show import Row, clean, fields
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.client import Listed
    from receiver.model.views import DeliveryView


def _print_totals(page: "Listed[DeliveryView]") -> None:
    if totals := getattr(page, "totals", None):
        click.echo("\nEver counted")
        fields(*((name.replace("_", " "), count) for name, count in totals.items()))


@list_group(
    lambda client: client.deliveries,
    ("delivery_state", "task"),
    ("id", "received (UTC)", "for", "says", "times", "bytes", "task"),
    below=_print_totals,
)
def deliveries(each: "DeliveryView") -> Row:
    """List the callbacks that were received, newest first, with totals.

    \b
    Examples:
      receiver deliveries --since 1h
      receiver deliveries body 42 > callback.json
    """
    says = "contradicting" if each.contradicting else each.claim or each.problem
    return each.id, moment(each.received_at), each.purpose, says, each.count, each.size, each.task


@deliveries.command()
@click.argument("delivery_id", metavar="ID", type=int)
def body(delivery_id: int) -> None:
    """Print a callback's body as it was received; on a terminal, without control characters.

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
