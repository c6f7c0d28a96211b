"""The queue: which task is sent next, who is sending it, and what its answer made of it.

A submission has a holder (a node) and a lease, as an action has: what another node sends is that node's affair.
"""

from receiver.model import rules
from receiver.model.records import AlertKind, Task, TaskState
from receiver.store.ledger.access import fact, keep_fact, reads, writes
from receiver.store.ledger.alerts import open_alert
from receiver.store.ledger.tasks import known, set_state
from receiver.store.ledger.transaction import Transaction

PAUSED = "queue_paused_until"
INTERRUPTED = "the server stopped while it was sent"
IN_DOUBT = """
state = 'in_doubt', holder = null, held_until = null,
check_at = case when delivered_at is null then cast(? as double precision) else sent_at end
"""
"""A delivery that came already is looked at at once."""


@writes
def take_queued_task(
    tx: Transaction, now: float, max_in_flight: int, *, callback: bool, node: str = rules.NODE
) -> Task | None:
    """The oldest queued task, now `submitting` by a node, under a lease of `rules.SUBMIT_PATIENCE`.

    None when the queue is empty, paused, or enough are in flight.
    """
    tx.lock("queue")
    if (fact(tx, PAUSED) or 0.0) > now or in_flight(tx, now) >= max_in_flight:
        return None
    row = tx.one(
        """
        update tasks set state = 'submitting', sent_at = ?, callback = ?, holder = ?, held_until = ?
        where key = (select key from tasks where state = 'queued' order by key limit 1)
        returning *
        """,
        *(now, int(callback), node, now + rules.SUBMIT_PATIENCE),
    )
    if row is not None:
        tx.changed("task", row["id"], "submitting")
    return known(row)


@reads
def queue_resumes_at(tx: Transaction, now: float, max_in_flight: int) -> float | None:
    """When a queued task may be sent: None when none waits or when only an end in flight can make room."""
    if not tx.is_there("select 1 from tasks where state = 'queued' limit 1"):
        return None
    if in_flight(tx, now) >= max_in_flight:
        doubt: float | None = tx.value("select min(sent_at) as value from tasks where state = 'in_doubt'")
        return None if doubt is None else doubt + rules.IN_DOUBT_COUNTS
    paused = fact(tx, PAUSED)
    return now if paused is None else paused


@writes
def mark_submitted(
    tx: Transaction, task: Task, provider_task_id: str, status: str, check_at: float, now: float
) -> bool:
    """The provider took the task. False when another task owns that provider id; then the task is in doubt.

    A callback may have come, and may even have ended the task, before this: then only the provider's id is added.
    Deliveries that named another id turn out to be contradicting.
    """
    if _is_anothers(tx, task.key, provider_task_id):
        set_state(tx, task.key, IN_DOUBT, now + rules.DOUBT_LOOK, among=(TaskState.SUBMITTING,))
        message = f"RunningHub gave task {task.id} an id that another task has; it is in doubt"
        open_alert(tx, AlertKind.ID_TAKEN, task.id, message, now)
        return False
    _set_provider_id(tx, task.key, provider_task_id)
    set_state(
        tx,
        task.key,
        """
        state = 'submitted', holder = null, held_until = null, provider_status = ?,
        check_at = case when delivered_at is null then cast(? as double precision) else ? end
        """,
        *(status, check_at, now),
        among=(TaskState.SUBMITTING,),
    )
    tx.change("update tasks set submitted_at = ? where key = ?", now, task.key)
    return True


@writes
def put_back(tx: Transaction, task: Task, pause_until: float) -> None:
    """Certainly not taken: the task is queued again and the whole queue rests until `pause_until`."""
    set_state(
        tx,
        task.key,
        "state = 'queued', sent_at = null, holder = null, held_until = null",
        among=(TaskState.SUBMITTING,),
    )
    keep_fact(tx, PAUSED, pause_until)


@writes
def mark_in_doubt(tx: Transaction, task: Task, why: str, now: float) -> None:
    """Sent, and no answer says whether it was taken: `why` is the reason, in a few words."""
    if set_state(tx, task.key, IN_DOUBT, now + rules.DOUBT_LOOK, among=(TaskState.SUBMITTING,)):
        _tell_doubt(tx, task.id, why, now)


@writes
def doubt_interrupted(tx: Transaction, now: float, *, node: str | None = None) -> int:
    """What was being sent when its sender died is in doubt. Returns how many tasks that were.

    These are the submissions whose lease has ended; and all that a `node` held, when it is that node that starts anew.
    """
    rows = tx.all(
        f"""
        update tasks set {IN_DOUBT} where state = 'submitting' and (held_until <= ? or holder = ?)
        returning key, id, sent_at
        """,
        *(now + rules.DOUBT_LOOK, now, node),
    )
    for row in rows:
        tx.changed("task", row["id"], "in_doubt")
        tx.change(
            "insert into checks (task, kind, at, seconds, ok, summary) values (?, 'submit', ?, ?, 0, ?)",
            *(row["key"], row["sent_at"], max(0.0, now - row["sent_at"]), INTERRUPTED),
        )
        _tell_doubt(tx, row["id"], INTERRUPTED, now)
    return len(rows)


def _tell_doubt(tx: Transaction, task_id: str, why: str, now: float) -> None:
    message = f"task {task_id} was sent, and no answer says whether it was taken ({why}): it may be billed"
    open_alert(tx, AlertKind.TASK_IN_DOUBT, task_id, message, now)


@writes
def adopt(tx: Transaction, task: Task, provider_task_id: str, now: float) -> bool:
    """A task in doubt gets the provider id that was proven to be its own. False when another task owns it."""
    if _is_anothers(tx, task.key, provider_task_id):
        return False
    _set_provider_id(tx, task.key, provider_task_id)
    change = "state = 'submitted', submitted_at = coalesce(submitted_at, sent_at), check_at = ?"
    set_state(tx, task.key, change, now, among=rules.sources(TaskState.SUBMITTED))
    return True


def in_flight(tx: Transaction, now: float) -> int:
    """How many tasks the provider may be working on. Those that are overdue count no more."""
    count: int = tx.value(
        """
        select count(*) as value from tasks
        where (state in ('submitting', 'submitted') and overdue = 0) or (state = 'in_doubt' and sent_at > ?)
        """,
        now - rules.IN_DOUBT_COUNTS,
    )
    return count


def _is_anothers(tx: Transaction, key: int, provider_task_id: str) -> bool:
    return tx.is_there("select 1 from tasks where provider_task_id = ? and key <> ?", provider_task_id, key)


def _set_provider_id(tx: Transaction, key: int, provider_task_id: str) -> None:
    tx.change("update tasks set provider_task_id = coalesce(provider_task_id, ?) where key = ?", provider_task_id, key)
    tx.change(
        """
        update deliveries set contradicting = 1
        where task = ? and provider_task_id is not null and provider_task_id <> ?
        """,
        *(key, provider_task_id),
    )
    tx.change(
        """
        update tasks set delivered_at =
          (select min(received_at) from deliveries where task = tasks.key and contradicting = 0)
        where key = ?
        """,
        key,
    )
