"""Which task is looked at next, and what looking at it wrote down."""

from receiver.model import rules
from receiver.model.records import AlertKind, Task, TaskState
from receiver.store.ledger.access import reads, writes
from receiver.store.ledger.alerts import open_alert
from receiver.store.ledger.tasks import known, set_state
from receiver.store.ledger.transaction import Transaction


@writes
def take_due_task(tx: Transaction, now: float, hold: float) -> Task | None:
    """The task that is due longest, pushed `hold` seconds away before anybody looks at it."""
    tx.lock("due")
    return known(
        tx.one(
            """
            update tasks set check_at = ?, queried_at = ?
            where key = (select key from tasks where check_at <= ? order by check_at limit 1)
            returning *
            """,
            *(now + hold, now, now),
        )
    )


@reads
def next_check_at(tx: Transaction) -> float | None:
    """When the next task is due, None when none ever is."""
    due: float | None = tx.value("select min(check_at) as value from tasks where check_at is not null")
    return due


@writes
def hold_task(tx: Transaction, task_id: str, now: float, hold: float) -> Task | None:
    """A task by its public id, taken as if it were due: somebody asked. None when there is none."""
    sql = "update tasks set check_at = ?, queried_at = ? where id = ? returning *"
    return known(tx.one(sql, now + hold, now, task_id))


@writes
def note_running(tx: Transaction, task: Task, status: str) -> None:
    """The provider knows the task and works on it; a task that was lost is found."""
    tx.change("update tasks set provider_status = ? where key = ?", status, task.key)
    set_state(tx, task.key, "state = 'submitted'", among=(TaskState.LOST,))


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
def give_up(tx: Transaction, task: Task, now: float) -> None:
    """Nothing was heard for too long: an open task is lost. Any later telling revives it."""
    rest(tx, task)
    if set_state(tx, task.key, "state = 'lost'", among=rules.sources(TaskState.LOST)):
        open_alert(tx, AlertKind.TASK_LOST, task.id, f"nothing was heard of task {task.id}", now)


def rest(tx: Transaction, task: Task) -> None:
    """Nothing more is looked for, unless somebody made the task due since it was taken."""
    sql = "update tasks set check_at = null where key = ? and check_at is not distinct from ?"
    tx.change(sql, task.key, task.check_at)


stop_watching = writes(rest)
