"""Deliveries: what was posted to our callback URLs, kept raw."""

from receiver.model import rules
from receiver.model.entries import Saying
from receiver.model.errors import Refused
from receiver.model.records import Delivery, Filter, Page, Task
from receiver.store.ledger.access import reads, record, writes
from receiver.store.ledger.pages import Range, Table, page_of
from receiver.store.ledger.transaction import Row, Transaction

TABLE = Table("deliveries", "received_at", "id")
STATES = {
    "readable": "problem is null",
    "unreadable": "problem is not null",
    "contradicting": "contradicting = 1",
}
SHOWN = ", ".join(f"d.{name}" for name in Delivery.__struct_fields__ if name not in ("task", "readable"))
LISTED = f"select {SHOWN}, t.id as task_id from deliveries d join tasks t on t.key = d.task where d.id in ({{keys}})"
"""Without the bytes, which nobody reads in a list."""
SETS_ARRIVAL = """
update tasks set delivered_at = (
  select min(received_at) from deliveries where task = tasks.key and contradicting = 0)
"""


@reads
def sayings(tx: Transaction, task: Task) -> list[Saying]:
    """The readable deliveries of a task that do not contradict its provider id, newest first."""
    rows = tx.all(
        """
        select id as delivery, purpose, provider_task_id, claim from deliveries
        where task = ? and problem is null and contradicting = 0 order by last_at desc, id desc limit ?
        """,
        *(task.key, rules.DELIVERY_BODIES),
    )
    return [record(Saying, row) for row in rows]


@writes
def contradict(tx: Transaction, delivery: int) -> None:
    """The delivery is about another task than its token's: it is kept, and changes nothing."""
    tx.change("update deliveries set contradicting = 1 where id = ?", delivery)
    tx.change(f"{SETS_ARRIVAL} where key = (select task from deliveries where id = ?)", delivery)
    sql = "select t.id as value from deliveries d join tasks t on t.key = d.task where d.id = ?"
    tx.changed("delivery", delivery, "contradicting", task=tx.value(sql, delivery))


@reads
def deliveries(tx: Transaction, wanted: Filter) -> Page[Delivery]:
    """A page of deliveries, newest first; state is readable, unreadable or contradicting."""
    states = [STATES[state] for state in wanted.state or ("readable", "unreadable")]
    if wanted.task is not None:
        mine = "task = (select key from tasks where id = ?)"
        ranges = [Range(TABLE, f"{mine} and {state}", (wanted.task,)) for state in states]
    else:
        ranges = [Range(TABLE, state) for state in states]
    return page_of(tx, ranges, wanted, LISTED, _delivery_of)


@reads
def delivery_body(tx: Transaction, delivery: int) -> bytes | None:
    """A delivery's raw bytes, as far as they were kept. Raises Refused (410) when they were pruned."""
    row = tx.one("select body, size from deliveries where id = ?", delivery)
    if row is not None and row["size"] and not row["body"]:
        message = f"the bytes of delivery {delivery} were removed: they are kept for as long as keep.bodies says"
        raise Refused(410, "body_removed", message)
    return None if row is None else bytes(row["body"])


def _delivery_of(row: Row) -> Delivery:
    return record(Delivery, row, task=row["task_id"], readable=row["problem"] is None)
