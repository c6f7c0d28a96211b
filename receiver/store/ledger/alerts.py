"""Alerts: what is wrong and is no task's end. One open row per kind and subject, counted."""

from collections.abc import Sequence

from msgspec.structs import replace

from receiver.model.records import Alert, AlertKind, Filter, Line, Page
from receiver.store.ledger.access import Access, Conditions, count_up, marks, reads, record, writes
from receiver.store.ledger.pages import Range, Table, page_of
from receiver.store.ledger.transaction import Transaction

TABLE = Table("alerts", "opened_at", "id")
STATES = {"open": "closed_at is null", "closed": "closed_at is not null"}


def open_alert(tx: Transaction, kind: AlertKind, subject: str, message: str, now: float) -> None:
    """Opens an alert, or counts it up when it is open already."""
    row = tx.one(
        """
        insert into alerts (kind, subject, message, opened_at, last_at) values (?, ?, ?, ?, ?)
        on conflict (kind, subject) where closed_at is null
        do update set count = alerts.count + 1, last_at = excluded.last_at, message = excluded.message
        returning id, count
        """,
        *(kind, subject, message, now, now),
    )
    # Raised once more it is the same alert, and the log has it already.
    is_new = row["count"] == 1
    tx.changed("alert", row["id"], "open", _told(kind, subject, message) if is_new else None)


def close_alert(tx: Transaction, kind: AlertKind, subject: str, now: float) -> None:
    """Closes an alert; does nothing when none is open."""
    close_alerts(tx, (kind,), subject, now)


def close_alerts(tx: Transaction, kinds: Sequence[AlertKind], subject: str, now: float) -> None:
    """Closes the alerts of these kinds about something."""
    _close_where(tx, f"kind in ({marks(kinds)}) and subject = ?", *kinds, subject, now=now)


def close_before(tx: Transaction, kind: AlertKind, before: float, now: float) -> None:
    """Closes the alerts of a kind that were raised last before a time."""
    _close_where(tx, "kind = ? and last_at < ?", kind, before, now=now)


def close_alerts_but(tx: Transaction, kind: AlertKind, subjects: Sequence[str], now: float) -> None:
    """Closes the alerts of a kind about anything else than these subjects."""
    but = subjects or ("",)
    _close_where(tx, f"kind = ? and subject not in ({marks(but)})", kind, *but, now=now)


def _close_where(tx: Transaction, which: str, *values: object, now: float) -> bool:
    rows = tx.all(f"update alerts set closed_at = ? where {which} and closed_at is null returning *", now, *values)
    for row in rows:
        tx.changed("alert", row["id"], "closed", _told(row["kind"], row["subject"], row["message"]))
    return bool(rows)


def _told(kind: str, subject: str, message: str) -> Line:
    return {"alert": str(kind), "subject": subject, "message": message}


@writes
def settle_alert(tx: Transaction, alert_id: int, now: float, *, close: bool) -> Alert | None:
    """Somebody has seen an alert, or closes it: for as long as it is not raised anew. None when there is none."""
    if close:
        _close_where(tx, "id = ?", alert_id, now=now)
    elif tx.change(
        "update alerts set acknowledged_at = coalesce(acknowledged_at, ?) where id = ? and closed_at is null",
        *(now, alert_id),
    ):
        tx.changed("alert", alert_id, "acknowledged")
    row = tx.one("select * from alerts where id = ?", alert_id)
    return None if row is None else record(Alert, row)


count = writes(count_up)
raise_alert = writes(open_alert)
_close = writes(close_alert)


def is_alerted(tx: Transaction, kind: AlertKind, subject: str) -> bool:
    """Whether an alert is open."""
    return tx.is_there("select 1 from alerts where kind = ? and subject = ? and closed_at is null", kind, subject)


_is_open = reads(is_alerted)


async def clear_alert(store: Access, kind: AlertKind, subject: str, now: float) -> None:
    """Closes an alert; does nothing, and writes nothing, when none is open."""
    if await _is_open(store, kind, subject):
        await _close(store, kind, subject, now)


@reads
def alerts(tx: Transaction, wanted: Filter) -> Page[Alert]:
    """A page of alerts, newest first; state is open or closed, `since` and `until` are about when it was open."""
    also = Conditions()
    also.among("a.kind", wanted.kind)
    if wanted.since is not None:
        also.add("a.last_at >= ?", wanted.since)
    holds = f"exists (select 1 from alerts a {also.where} and a.id = w.place)" if also.texts else ""
    ranges = [Range(TABLE, STATES[state], (), holds, tuple(also.values)) for state in wanted.state or STATES]
    select = "select * from alerts where id in ({keys})"
    return page_of(tx, ranges, replace(wanted, since=None), select, lambda row: record(Alert, row))


@reads
def counters(tx: Transaction) -> dict[str, int]:
    """Everything that was ever counted, by name."""
    return {row["name"]: row["value"] for row in tx.all("select name, value from counters order by name")}
