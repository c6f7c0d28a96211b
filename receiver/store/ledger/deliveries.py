"""Deliveries: what was posted to our callback URLs, kept raw. Recording one is the hot path of the whole program."""

from collections import Counter
from collections.abc import Sequence

from receiver.model import rules
from receiver.model.entries import NewDelivery, Recorded, Saying
from receiver.model.records import Delivery, Filter, Page, Purpose, Task, TaskState
from receiver.store.ledger.access import admits_together, count_up, reads, record, writes
from receiver.store.ledger.misses import close_miss, note_open_door
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


@admits_together
def record_deliveries(tx: Transaction, arrived: Sequence[tuple[NewDelivery, float]]) -> list[Recorded | None]:
    """Keeps callbacks, each with the time it came at, and makes their tasks due. None where there is no such task."""
    counted: Counter[str] = Counter()
    sent: list[float] = []
    recorded = [_record(tx, new, now, counted, sent) for new, now in arrived]
    if sent:
        note_open_door(tx, max(sent), max(now for _, now in arrived))
    for name, count in counted.items():
        count_up(tx, name, count)
    return recorded


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
    tx.changed("delivery", delivery, "contradicting")


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
    """A delivery's raw bytes, as far as they were kept."""
    body = tx.value("select body as value from deliveries where id = ?", delivery)
    return None if body is None else bytes(body)


def _delivery_of(row: Row) -> Delivery:
    return record(Delivery, row, task=row["task_id"], readable=row["problem"] is None)


def _record(tx: Transaction, new: NewDelivery, now: float, counted: Counter[str], sent: list[float]) -> Recorded | None:
    """Keeps one callback; adds up in `counted`, and to `sent` when the task was sent whose callback it is."""
    task = tx.one(
        """
        select key, state, provider_task_id, bodies, delivered_at, queried_at, settled, miss, miss_cause, sent_at
        from tasks where id = ?
        """,
        new.task,
    )
    if task is None:
        return None
    named = new.provider_task_id
    contradicting = named is not None and task["provider_task_id"] not in (None, named)
    times = _times(tx, task, new, now, contradicting=contradicting)
    counted["callbacks_received" if times in (0, 1) else "callbacks_repeated"] += 1
    if not contradicting and times == 1:
        # A resend came because it was asked for: it closes what it is about, and no alert about others.
        sent.append((task["sent_at"] or 0.0) if new.purpose == Purpose.SUBMIT else 0.0)
    due = _arrived(tx, task, now, kept=times == 1, contradicting=contradicting)
    return Recorded(duplicate=times > 1, due=due, kept=times > 0)


def _times(tx: Transaction, task: Row, new: NewDelivery, now: float, *, contradicting: bool) -> int:
    """How often these bytes have come by now; 0 for new ones that are not kept, because too many others are."""
    if task["bodies"] >= rules.DELIVERY_BODIES:
        again = """
        update deliveries set count = count + 1, last_at = ? where task = ? and purpose = ? and digest = ?
        returning count as value
        """
        times: int | None = tx.value(again, now, task["key"], new.purpose, new.digest)
        if times is not None or not _finds_a_place(tx, task, new):
            return times or 0
    row = tx.one(
        """
        insert into deliveries (task, purpose, digest, received_at, last_at, size, provider_task_id, claim, problem,
          contradicting, body)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        on conflict (task, purpose, digest) do update set count = deliveries.count + 1, last_at = excluded.last_at
        returning id, count
        """,
        *(task["key"], new.purpose, new.digest, now, now, new.size, new.provider_task_id, new.claim, new.problem),
        *(int(contradicting), new.body),
    )
    if row["count"] == 1:
        kind = "contradicting" if contradicting else "unreadable" if new.problem else "readable"
        tx.changed("delivery", row["id"], kind)
    count: int = row["count"]
    return count


def _finds_a_place(tx: Transaction, task: Row, new: NewDelivery) -> bool:
    """Whether one more body is kept of a task that has as many as it may: when another may give way to it.

    Unreadable ones give way first, then those that contradict, then the oldest; a readable one gives way to none that
    cannot be read.
    """
    among = "" if new.problem is None else "and problem is not null"
    least = f"select id from deliveries where task = ? {among} order by problem is null, contradicting = 0, id limit 1"
    gone = tx.change(f"delete from deliveries where id = ({least})", task["key"])
    tx.change("update tasks set bodies = bodies - ? where key = ?", gone, task["key"])
    return bool(gone)


def _arrived(tx: Transaction, task: Row, now: float, *, kept: bool, contradicting: bool) -> bool:
    """Counts the body that was kept. A callback that is this task's makes it due: now, or soon if it was just asked."""
    if contradicting:
        if kept:
            tx.change("update tasks set bodies = bodies + 1 where key = ?", task["key"])
        return False
    if task["miss"] is not None:
        close_miss(tx, task, now)
    due = None
    if not task["settled"] and task["state"] != TaskState.QUEUED:
        due = now if task["delivered_at"] is None else max(now, (task["queried_at"] or 0.0) + rules.QUERY_SPACING)
    tx.change(
        """
        update tasks set bodies = bodies + ?, delivered_at = coalesce(delivered_at, ?),
          check_at = case when check_at is null or check_at > ? then ? else check_at end
        where key = ?
        """,
        *(int(kept), now, due, due, task["key"]),
    )
    return due is not None
