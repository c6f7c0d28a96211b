"""`receiver alerts`: what is wrong, or was."""

from typing import TYPE_CHECKING

from receiver.cli.shapes import about, list_group
from receiver.cli.show import Row, table
from receiver.model.sentences import moment

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.views import AlertView

HEADERS = ("id", "state", "kind", "times", "last (UTC)", "message")


def _row(alert: "AlertView") -> Row:
    state = "closed" if alert.closed_at else "seen" if alert.acknowledged_at else "open"
    return alert.id, state, alert.kind, alert.count, moment(alert.last_at), alert.message


@list_group(lambda client: client.alerts, ("alert_state", "alert_kind"), HEADERS)
def alerts(alert: "AlertView") -> Row:
    """List what is wrong, or was: missed callbacks, dead actions, full disks.

    \b
    Examples:
      receiver alerts --state open
      receiver alerts close 17
    """
    return _row(alert)


def _print_alert(alert: "AlertView") -> None:
    table(HEADERS, [_row(alert)])


@about(int, _print_alert, "alerts ack 17", group=alerts)
def ack(client: "Client", alert_id: int) -> "AlertView":
    """Mark an alert as seen. It stays open until its cause is gone."""
    return client.acknowledge_alert(alert_id)


@about(int, _print_alert, "alerts close 17", group=alerts)
def close(client: "Client", alert_id: int) -> "AlertView":
    """Close an alert. Another one is opened if it happens again."""
    return client.close_alert(alert_id)
