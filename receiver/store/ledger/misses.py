"""Missed callbacks: tasks that ended without one, and what is done to get it."""

from receiver.model import rules
from receiver.model.records import AlertKind, MissCause, MissState, Task
from receiver.store.ledger.access import count_up, fact, keep_fact, writes
from receiver.store.ledger.alerts import close_alert, close_before, open_alert
from receiver.store.ledger.transaction import Transaction

RESEND_FREE = "resend_free_at"


@writes
def mark_missed(tx: Transaction, task: Task, cause: MissCause, now: float) -> bool:
    """The callback of an ended task is missed. Counted once, by cause. False when it came after all."""
    unregistered = cause is MissCause.UNREGISTERED
    changed = tx.change(
        """
        update tasks set miss = ?, miss_cause = ?, missed_at = ?
        where key = ? and delivered_at is null and miss = 'watching'
        """,
        *(MissState.UNREGISTERED if unregistered else MissState.MISSED, cause, now, task.key),
    )
    if changed:
        count_up(tx, "callbacks_missed")
        count_up(tx, f"callbacks_missed.{cause}")
        open_alert(tx, AlertKind.CALLBACK_MISSED, cause, f"callbacks do not arrive: {cause.phrase}", now)
        tx.changed("task", task.id, task.state, task=task.id)
    return bool(changed)


@writes
def begin_resend(tx: Transaction, task: Task, now: float, again: float | None = None) -> float | None:
    """Writes down that a resend is about to be asked for. Returns None when it may be asked now, else when.

    Should the callback not come, it is asked for `again` then.

    Resends leave one by one, a second apart, so that a door that has just opened is not flooded.
    """
    tx.lock("resend")
    free_at = fact(tx, RESEND_FREE)
    if free_at is not None and free_at > now:
        tx.change("update tasks set check_at = ? where key = ?", free_at, task.key)
        return free_at
    keep_fact(tx, RESEND_FREE, now + rules.RESEND_SPACING)
    tx.change(
        """
        update tasks set resends = resends + 1, resent_at = ?,
          check_at = case when miss in ('missed', 'resent') then cast(? as double precision) else check_at end,
          miss = case when miss = 'missed' then 'resent' else miss end
        where key = ?
        """,
        *(now, again, task.key),
    )
    return None


@writes
def resend_failed(tx: Transaction, task: Task, retry_at: float | None) -> None:
    """The resend could not be asked for: the task is missed again, and tried at `retry_at` unless None."""
    tx.change(
        "update tasks set miss = 'missed', check_at = ? where key = ? and miss = 'resent' and delivered_at is null",
        *(retry_at, task.key),
    )


def note_open_door(tx: Transaction, sent_at: float, now: float) -> None:
    """The callback came of a task that was sent at `sent_at`: those that are still missed may come as well.

    An alert about callbacks of earlier tasks is over, whether or not theirs ever come.
    """
    close_before(tx, AlertKind.CALLBACK_MISSED, sent_at, now)
    # The coalesce, and no order, keep the planner from going through all tasks, or all that are due some time.
    tx.change(
        """
        update tasks set check_at = ? where key in (
          select key from tasks where miss in ('missed', 'resent') and coalesce(check_at, 0) > ?
            and (resent_at is null or ? - resent_at >= ? * resends * resends) limit ?)
        """,
        *(now, now, now, rules.RESEND_SHORTCUT, rules.RESEND_WOKEN),
    )


def close_miss(tx: Transaction, task: int, miss: str, cause: str | None, now: float) -> None:
    """A delivery came for a task whose callback was looked for: the search ends, and the alert with the last one."""
    if miss == MissState.WATCHING:
        tx.change("update tasks set miss = null, check_at = null where key = ?", task)
    elif miss in (MissState.MISSED, MissState.RESENT):
        tx.change("update tasks set miss = 'late', check_at = null where key = ?", task)
        count_up(tx, "callbacks_late")
        others = "select 1 from tasks where miss in ('missed', 'resent') and miss_cause is not distinct from ? limit 1"
        if not tx.is_there(others, cause):
            close_alert(tx, AlertKind.CALLBACK_MISSED, cause or "", now)
