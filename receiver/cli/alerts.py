"""`receiver alerts`: what is wrong, or was."""

from typing import TYPE_CHECKING

import click

from receiver.cli.shapes import listing
from receiver.cli.show import Row
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.model.views import AlertView


@click.command()
@listing(
    lambda client: client.alerts,
    ("alert_state", "alert_kind"),
    ("id", "state", "kind", "times", "last (UTC)", "message"),
)
def alerts(alert: "AlertView") -> Row:
    """List what is wrong, or was: missed callbacks, dead actions, full disks.

    \b
    Example:
      receiver alerts --state open
    """
    state = "closed" if alert.closed_at else "open"
    return alert.id, state, alert.kind, alert.count, moment(alert.last_at), alert.message
