"""The ledger of tasks: what was ordered, and where it stands."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from receiver.model import rules
from receiver.model.entries import Added, ListedTask, NewTask
from receiver.model.errors import Refused
from receiver.model.records import AlertKind, Filter, JsonObject, Line, Page, Task, TaskState
from receiver.model.redaction import shown_input
from receiver.store.ledger.access import admits, encode, encode_some, marks, reads, record, writes
from receiver.store.ledger.alerts import close_alert, close_alerts, open_alert
from receiver.store.ledger.pages import page_of
from receiver.store.ledger.search import ranges_of
from receiver.store.ledger.transaction import Row, Transaction

STORY: dict[str, tuple[AlertKind, ...]] = {
    TaskState.IN_DOUBT: (AlertKind.TASK_LOST, AlertKind.TASK_OVERDUE),
    TaskState.LOST: (AlertKind.TASK_OVERDUE,),
}
"""The alerts of a task that end when it comes to a state."""
ALL_OF_IT = (AlertKind.TASK_IN_DOUBT, AlertKind.TASK_LOST, AlertKind.TASK_OVERDUE, AlertKind.ID_TAKEN)
"""Those that end with any other state."""
HEARD_OF = (AlertKind.TASK_LOST,)
"""Those that end with an end which RunningHub has not confirmed: something was heard, but it may be forged."""
REPEATED = (TaskState.SUBMITTED, TaskState.SUCCEEDED, TaskState.FAILED)
"""Where an order has come to that answers the doubt about the one it repeats."""


LISTED = f"select {', '.join(ListedTask.__struct_fields__)} from tasks where key in ({{keys}})"
"""Without the inputs, which may be large: a list does not read what it does not show."""


def task_of(row: Row) -> Task:
    return record(Task, row, refresh=row["refresh"] == 1)


def known(row: Row | None) -> Task | None:
    return None if row is None else task_of(row)


def first_readable(tx: Transaction, next_row: Callable[[], Any], now: float) -> Task | None:
    """The first task of those that come next that can be read. Those that cannot are set aside."""
    while (row := next_row()) is not None:
        try:
            return task_of(row)
        except Refused as problem:
            set_aside(tx, row, problem, now)
    return None


def set_state(
    tx: Transaction,
    key: int,
    change: str,
    *values: object,
    among: Sequence[str],
    now: float | None = None,
    told: Line = {},  # noqa: B006 (never written to)
) -> bool:
    """Writes `change` to a task that is in one of the states `among`; tells where it came to. False: it was in none.

    The log says what is `told` of it beside.

    The alerts of its story end when the story goes on; when it succeeds, so do those of the orders that it repeats.
    An end that is not settled leaves them open, but for the one that says that nothing was heard.
    """
    sql = f"update tasks set {change} where key = ? and state in ({marks(among)})"
    sql += " returning id, state, settled, again_of, target, provider_task_id"
    row = tx.one(sql, *values, key, *among)
    if row is None:
        return False
    tx.changed("task", row["id"], row["state"], {**known_of(row), **told}, task=row["id"])
    if now is not None:
        _close_alerts(tx, row, now)
    return True


def known_of(row: Row) -> Line:
    """What the log says of every task that has come to something."""
    return {"target": row["target"], "provider_task_id": row["provider_task_id"]}


def _close_alerts(tx: Transaction, row: Row, now: float) -> None:
    task_id, state, again_of = row["id"], row["state"], row["again_of"]
    if state in rules.ENDED and not row["settled"]:
        close_alerts(tx, HEARD_OF, task_id, now)
        return
    close_alerts(tx, STORY.get(state, ALL_OF_IT), task_id, now)
    while again_of is not None and state in REPEATED:
        close_alerts(tx, ALL_OF_IT, again_of, now)
        tx.change("update tasks set repeated = 1 where id = ?", again_of)
        again_of = tx.value("select again_of as value from tasks where id = ?", again_of)


def set_aside(tx: Transaction, row: Row, problem: Exception, now: float) -> None:
    """A task that cannot be read holds nothing up: it is not looked at again before the next start."""
    tx.change("update tasks set aside = 1, check_at = null where key = ?", row["key"])
    open_alert(tx, AlertKind.TASK_UNREADABLE, row["id"], f"task {row['id']} is set aside: {problem}", now)


@writes
def set_task_aside(tx: Transaction, task: Task, problem: Exception, now: float) -> None:
    """The same for a task of which something else cannot be read."""
    set_aside(tx, {"key": task.key, "id": task.id}, problem, now)


@writes
def look_at_unreadable(tx: Transaction, now: float) -> None:
    """What another version set aside is looked at again."""
    for row in tx.all("update tasks set aside = 0, check_at = ? where aside = 1 returning id", now):
        close_alert(tx, AlertKind.TASK_UNREADABLE, row["id"], now)


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
          (id, kind, api, target, input, input_start, input_size, labels, state, created_at, idempotency_key, digest,
          again_of, uploads)
        values (?, ?, ?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?) on conflict (id) do nothing
        """,
        *(order.id, order.kind, order.api, order.target, *input_columns(order.input), encode(order.labels)),
        *(now, order.idempotency_key, order.digest, order.again_of, encode_some(order.uploads or None)),
    )
    if new:
        told: Line = {"target": order.target, "again_of": order.again_of}
        tx.changed("task", order.id, "queued", told, task=order.id)
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
def count_tasks(tx: Transaction, states: Sequence[str], most: int) -> dict[str, int]:
    """How many tasks are in each of these states; not more than `most` are counted."""
    count = "select count(*) as value from (select 1 from tasks where state = ? limit ?) found"
    return {state: int(tx.value(count, state, most)) for state in states}


@reads
def tasks(tx: Transaction, wanted: Filter) -> Page[ListedTask]:
    """A page of tasks, newest first."""
    return page_of(tx, ranges_of(tx, wanted), wanted, LISTED, partial(record, ListedTask), key="key")


def input_columns(given: JsonObject) -> tuple[str, str, int]:
    """An input as it is kept, how it begins (without what opens somebody's workflow), and its size in bytes."""
    text = encode(given)
    return text, encode(shown_input(given))[: rules.INPUT_SHOWN], len(text.encode())
