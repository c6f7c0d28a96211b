"""Which task is looked at next, and what looking at it wrote down."""

import sys

from receiver.model import rules
from receiver.model.records import AlertKind, Task, TaskState
from receiver.store.ledger.access import reads, writes
from receiver.store.ledger.alerts import is_alerted, open_alert
from receiver.store.ledger.misses import RESEND_FREE
from receiver.store.ledger.submissions import PAUSED
from receiver.store.ledger.tasks import first_readable, known, set_state
from receiver.store.ledger.transaction import Transaction

MARKS = ("sent_at", "submitted_at", "delivered_at", "queried_at", "empty_since", "unknown_at")
"""When something happened to a task from which a time is counted."""


@writes
def take_due_task(tx: Transaction, now: float, hold: float) -> Task | None:
    """The task that is due longest, pushed `hold` seconds away before anybody looks at it."""
    tx.lock("due")
    due = """
    update tasks set check_at = ?, queried_at = ?
    where key = (select key from tasks where check_at <= ? order by check_at limit 1) returning *
    """
    return first_readable(tx, lambda: tx.one(due, now + hold, now, now), now)


@reads
def next_check_at(tx: Transaction) -> float | None:
    """When the next task is due, None when none ever is."""
    due: float | None = tx.value("select min(check_at) as value from tasks where check_at is not null")
    return due


@writes
def bound_times(tx: Transaction, now: float, patience: float) -> int:
    """Brings back every time that only a wrong clock can have set so far ahead. Returns how many made anything due.

    A wrong clock shows in times of what has happened: where they lie in the future, what was counted from them is too
    far off. A replay may spread its actions over any time, so those keep theirs, but when it was itself begun in the
    future.
    """
    furthest, wrong = now + max(patience, rules.LOST_REST) + rules.LADDER_REST, now + rules.CLOCK_SLACK
    ahead = " or ".join(f"{mark} > ?" for mark in MARKS)
    tasks = tx.change("update tasks set check_at = ? where check_at > ?", now, furthest)
    counted = f"update tasks set check_at = ? where check_at > ? and ({ahead})"
    tasks += tx.change(counted, now, wrong, *[wrong] * len(MARKS))
    sent = "update tasks set held_until = ? where state = 'submitting' and held_until > ?"
    tx.change(sent, now + rules.SUBMIT_PATIENCE, now + rules.SUBMIT_PATIENCE)
    actions = 0
    for row in tx.all("select name from definitions"):
        owed = """
        update actions set due_at = ? where name = ? and state = 'owed' and due_at > ?
          and ((replay is null and (due_at > ? or created_at > ?))
            or replay in (select id from replays where created_at > ?)
            or exists (select 1 from attempts t where t.action = actions.id and t.number = fence and t.ended_at > ?))
        """
        longest = now + rules.backoff(sys.maxsize, 1.0)
        actions += tx.change(owed, now, row["name"], longest, now + rules.LINKS_LIVE, wrong, wrong, wrong)
    # What is said to have happened in the future would be waited for as long, and count as in flight.
    marks = ", ".join(f"{mark} = case when {mark} > ? then ? else {mark} end" for mark in MARKS)
    times = [now] * len(MARKS)
    tx.change(f"update tasks set {marks} where check_at is not null and ({ahead})", *times, *times, *times)
    rests = 0
    for name, most in ((PAUSED, rules.BACKOFF_CAP), (RESEND_FREE, rules.RESEND_SPACING)):
        rests += tx.change("update facts set value = ? where name = ? and value > ?", now, name, now + most)
    return tasks + actions + rests


@writes
def hold_task(tx: Transaction, task_id: str, now: float, hold: float) -> Task | None:
    """A task by its public id, taken as if it were due: somebody asked. None when there is none."""
    sql = "update tasks set check_at = ?, queried_at = ? where id = ? returning *"
    return known(tx.one(sql, now + hold, now, task_id))


@writes
def note_running(tx: Transaction, task: Task, status: str, now: float) -> None:
    """The provider knows the task and works on it; a task that was lost is found."""
    tx.change(
        "update tasks set provider_status = ?, unknown_for = 0, unknown_at = null where key = ?", status, task.key
    )
    found = set_state(tx, task.key, "state = 'submitted'", among=(TaskState.LOST,), now=now)
    if not found and status != task.provider_status:
        tx.changed("task", task.id, task.state, task=task.id)


@writes
def check_again(tx: Transaction, task: Task, at: float, *, unsure: bool = False) -> None:
    """Sets when a task is looked at next, and counts the question on its ladder.

    When somebody made the task due since it was taken, the earlier of the two times stands.
    """
    step = "unsure_asked = unsure_asked + 1" if unsure else "asked = asked + 1"
    tx.change(
        f"""
        update tasks set {step},
          check_at = case when check_at is null or check_at is not distinct from ? or check_at > ? then ?
            else check_at end
        where key = ?
        """,
        *(task.check_at, at, at, task.key),
    )


@writes
def note_empty(tx: Transaction, task: Task, now: float, check_at: float) -> None:
    """SUCCESS without results was seen once more."""
    tx.change(
        """
        update tasks set empty_count = empty_count + 1, empty_since = coalesce(empty_since, ?), check_at = ?
        where key = ?
        """,
        *(now, check_at, task.key),
    )


@writes
def note_unknown(tx: Transaction, task: Task, now: float) -> float:
    """The provider says that it does not know the task. Returns for how many seconds it has kept saying so.

    Time in which it was not asked, or did not answer, is left out.
    """
    spell = "case when unknown_at is null then 0.0 when ? - unknown_at > ? then ? else ? - unknown_at end"
    most = 2 * rules.LADDER_REST
    row = tx.one(
        f"update tasks set unknown_for = unknown_for + {spell}, unknown_at = ? where key = ? returning unknown_for",
        *(now, most, most, now, now, task.key),
    )
    seconds: float = row["unknown_for"]
    return seconds


@reads
def longest_run(tx: Transaction, task: Task) -> float | None:
    """The longest of the last tasks of the same target, in seconds; None when none has succeeded."""
    longest: float | None = tx.value(
        """
        select max(t.ended_at - t.submitted_at) as value from (
          select ended_at, submitted_at from tasks where target = ? and kind = ? and state = 'succeeded'
          order by created_at desc limit 50) t
        """,
        *(task.target, task.kind),
    )
    return longest


@writes
def mark_overdue(tx: Transaction, task: Task, now: float) -> None:
    """A task runs for far longer than others like it: it does not count as in flight any more."""
    if tx.change("update tasks set overdue = 1 where key = ? and overdue = 0", task.key):
        message = f"task {task.id} still runs at RunningHub, far longer than others of its kind"
        open_alert(tx, AlertKind.TASK_OVERDUE, task.id, message, now)


@writes
def give_up(tx: Transaction, task: Task, now: float) -> None:
    """Nothing was heard for too long: an open task is lost. It is still asked about, rarely; any news revives it.

    So is one whose end was only claimed, also without an id of its own: the claim names one.
    """
    rest(tx, task)
    is_claimed = task.state in rules.ENDED
    old = not (is_claimed or task.provider_task_id) or now - (task.submitted_at or task.created_at) > rules.LOST_KEPT
    if not old:
        tx.change("update tasks set check_at = ? where key = ? and check_at is null", now + rules.LOST_REST, task.key)
    message = f"nothing was heard of task {task.id}"
    if is_claimed:
        message = f"a callback claims that task {task.id} has {task.state}, and RunningHub does not know the task"
        is_new = not is_alerted(tx, AlertKind.TASK_LOST, task.id)
    else:
        is_new = set_state(tx, task.key, "state = 'lost'", among=rules.sources(TaskState.LOST), now=now)
    if is_new and not tx.is_there("select 1 from tasks where key = ? and repeated = 1", task.key):
        open_alert(tx, AlertKind.TASK_LOST, task.id, message, now)


def rest(tx: Transaction, task: Task) -> None:
    """Nothing more is looked for, unless somebody made the task due since it was taken."""
    sql = "update tasks set check_at = null where key = ? and check_at is not distinct from ?"
    tx.change(sql, task.key, task.check_at)


stop_watching = writes(rest)
