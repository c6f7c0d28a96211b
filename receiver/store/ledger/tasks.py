"""The ledger of tasks: what was ordered, and where it stands."""

from collections.abc import Sequence

from receiver.model.entries import Added, NewTask
from receiver.model.records import Filter, Page, Task
from receiver.store.ledger.access import admits, encode, encode_some, marks, reads, record
from receiver.store.ledger.pages import page_of
from receiver.store.ledger.search import ranges_of
from receiver.store.ledger.transaction import Row, Transaction


def task_of(row: Row) -> Task:
    return record(Task, row, refresh=row["refresh"] == 1)


def known(row: Row | None) -> Task | None:
    return None if row is None else task_of(row)


def set_state(tx: Transaction, key: int, change: str, *values: object, among: Sequence[str]) -> bool:
    """Writes `change` to a task that is in one of the states `among`; tells where it came to. False: it was in none."""
    sql = f"update tasks set {change} where key = ? and state in ({marks(among)}) returning id, state"
    row = tx.one(sql, *values, key, *among)
    if row is not None:
        tx.changed("task", row["id"], row["state"])
    return row is not None


@admits
def add_task(tx: Transaction, order: NewTask, now: float) -> Added:
    """A new task, queued; or the task that was added before under the same idempotency key."""
    if order.idempotency_key is not None:
        row = tx.one("select * from tasks where idempotency_key = ?", order.idempotency_key)
        if row is not None:
            return Added(task=task_of(row), new=False, conflict=row["digest"] != order.digest)
    new = tx.change(
        """
        insert into tasks
          (id, kind, api, target, input, labels, state, created_at, idempotency_key, digest, again_of, uploads)
        values (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?) on conflict (id) do nothing
        """,
        *(order.id, order.kind, order.api, order.target, encode(order.input), encode(order.labels)),
        *(now, order.idempotency_key, order.digest, order.again_of, encode_some(order.uploads or None)),
    )
    if new:
        tx.changed("task", order.id, "queued")
    row = tx.one("select * from tasks where id = ?", order.id)
    return Added(task=task_of(row), new=bool(new), conflict=row["digest"] != order.digest)


@reads
def task(tx: Transaction, task_id: str) -> Task | None:
    """A task by its public id."""
    return known(tx.one("select * from tasks where id = ?", task_id))


@reads
def task_by_idempotency_key(tx: Transaction, idempotency_key: str) -> Task | None:
    """The task that was ordered under a key."""
    return known(tx.one("select * from tasks where idempotency_key = ?", idempotency_key))


@reads
def tasks(tx: Transaction, wanted: Filter) -> Page[Task]:
    """A page of tasks, newest first."""
    select = "select * from tasks where key in ({keys})"
    return page_of(tx, ranges_of(tx, wanted), wanted, select, task_of, key="key")
