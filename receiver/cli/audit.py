"""`receiver audit`: what people did."""

from typing import TYPE_CHECKING

import click

from receiver.cli.shapes import listing
from receiver.cli.show import Row
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.model.deeds import DeedView

HEADERS = ("at (UTC)", "door", "did", "to", "rows", "result")


@click.command()
@listing(lambda client: client.audit, ("verb",), HEADERS)
def audit(deed: "DeedView") -> Row:
    """List what people did through the command line and the API, newest first.

    \b
    Examples:
      receiver audit --since 1d
      receiver audit --verb replay --json
    """
    return moment(deed.at), deed.door, deed.verb, deed.object or "-", deed.count, deed.result
