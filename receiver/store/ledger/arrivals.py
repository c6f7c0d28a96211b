"""Arrivals: what is posted to our callback URLs is kept. This is the hot path of the whole program.

All deliveries that wait are recorded together, in a handful of statements: each statement lets go of Python's lock, and
getting it back costs more than the row does (measured).
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from msgspec import Struct

from receiver.model import rules
from receiver.model.entries import NewDelivery, Recorded
from receiver.model.records import Purpose, TaskState
from receiver.store.ledger.access import admits_together, count_up, encode
from receiver.store.ledger.misses import close_miss, note_open_door
from receiver.store.ledger.tallies import note_delay
from receiver.store.ledger.transaction import Transaction

DIGEST = 32
"""Bytes of a SHA-256."""

Arrival = tuple[NewDelivery, float]


class Known(Struct, frozen=True, array_like=True):
    """What the ledger knows when the delivery `number` of a batch comes: its task, and its twin with the same bytes."""

    number: int
    task: int
    state: str
    provider_task_id: str | None
    bodies: int
    delivered_at: float | None
    queried_at: float | None
    settled: int
    miss: str | None
    miss_cause: str | None
    sent_at: float | None
    twin: int | None


class Fate(NamedTuple):
    """What becomes of a delivery: kept as a row of its own, or counted at its twin; and when its task is due by it."""

    new: NewDelivery
    now: float
    task: Known
    kept: bool
    contradicting: bool
    due: float | None


@admits_together
def record_deliveries(tx: Transaction, arrived: Sequence[Arrival]) -> list[Recorded | None]:
    """Keeps callbacks, each with the time it came at, and makes their tasks due. None where there is no such task."""
    fates = [fate for batch in _of_different_tasks(arrived) for fate in _record(tx, batch)]
    known = [fate for fate in fates if fate is not None]
    _count(tx, known)
    # A resend came because it was asked for: it closes what it is about, and no alert about others.
    sent = [
        (fate.task.sent_at or 0.0) if fate.new.purpose == Purpose.SUBMIT else 0.0
        for fate in known
        if fate.kept and not fate.contradicting
    ]
    if sent:
        note_open_door(tx, max(sent), max(now for _, now in arrived))
    return [fate and _answer(fate) for fate in fates]


def _of_different_tasks(arrived: Sequence[Arrival]) -> Iterator[list[Arrival]]:
    """The deliveries in their order, cut where a task comes again: what it comes to depends on the one before."""
    batch: dict[str, Arrival] = {}
    for each in arrived:
        if each[0].task in batch:
            yield list(batch.values())
            batch.clear()
        batch[each[0].task] = each
    yield list(batch.values())


def _record(tx: Transaction, batch: Sequence[Arrival]) -> list[Fate | None]:
    """Looks everything up, then decides, then writes."""
    known = {each.number: each for each in _look_up(tx, batch)}
    fates = [
        _decide(tx, known[number], new, now) if number in known else None for number, (new, now) in enumerate(batch)
    ]
    here = [fate for fate in fates if fate is not None]
    _keep(tx, [fate for fate in here if fate.kept])
    _repeat(tx, [fate for fate in here if fate.task.twin is not None])
    _note(tx, here)
    return fates


def _look_up(tx: Transaction, batch: Sequence[Arrival]) -> list[Known]:
    return tx.records(
        Known,
        f"""
        select a.number, t.key as task, t.state, t.provider_task_id, t.bodies, t.delivered_at, t.queried_at, t.settled,
          t.miss, t.miss_cause, t.sent_at, d.id as twin
        from ({tx.each_row("id text", "purpose text")}) a join tasks t on t.id = a.id
          left join deliveries d on d.task = t.key and d.purpose = a.purpose
            and d.digest = substr(?, {DIGEST} * a.number + 1, {DIGEST})
        """,
        *(encode([(new.task, new.purpose) for new, _ in batch]), b"".join(new.digest for new, _ in batch)),
    )


def _decide(tx: Transaction, task: Known, new: NewDelivery, now: float) -> Fate:
    contradicting = None not in (new.provider_task_id, task.provider_task_id)
    contradicting = contradicting and new.provider_task_id != task.provider_task_id
    kept = task.twin is None and (task.bodies < rules.DELIVERY_BODIES or _finds_a_place(tx, task.task, new))
    due = None
    if not contradicting:
        if task.miss is not None:
            close_miss(tx, task.task, task.miss, task.miss_cause, now)
            if task.delivered_at is None:
                note_delay(tx, task.task, now)
        if not task.settled and task.state != TaskState.QUEUED:
            due = now if task.delivered_at is None else max(now, (task.queried_at or 0.0) + rules.QUERY_SPACING)
    return Fate(new, now, task, kept, contradicting, due)


def _finds_a_place(tx: Transaction, task: int, new: NewDelivery) -> bool:
    """Whether one more body is kept of a task that has as many as it may: when another may give way to it.

    Unreadable ones give way first, then those that contradict, then the oldest; a readable one gives way to none that
    cannot be read.
    """
    among = "" if new.problem is None else "and problem is not null"
    least = f"select id from deliveries where task = ? {among} order by problem is null, contradicting = 0, id limit 1"
    gone = tx.change(f"delete from deliveries where id = ({least})", task)
    tx.change("update tasks set bodies = bodies - ? where key = ?", gone, task)
    return bool(gone)


def _keep(tx: Transaction, fates: Sequence[Fate]) -> None:
    if not fates:
        return
    rows, at = [], 0
    for id_, fate in zip(tx.new_ids("deliveries", len(fates)), fates, strict=True):
        new = fate.new
        said = (new.size, new.provider_task_id, new.claim, new.problem, int(fate.contradicting))
        rows.append((id_, fate.task.task, new.purpose, fate.now, *said, at + 1, len(new.body)))
        at += len(new.body)
        kind = "contradicting" if fate.contradicting else "unreadable" if new.problem else "readable"
        tx.changed("delivery", id_, kind, task=new.task)
    each = tx.each_row(
        *("id bigint", "task bigint", "purpose text", "at double precision", "size bigint", "named text", "claim text"),
        *("problem text", "contradicting bigint", "start integer", "length integer"),
    )
    tx.change(
        f"""
        insert into deliveries (id, task, purpose, received_at, last_at, size, provider_task_id, claim, problem,
          contradicting, digest, body)
        select a.id, a.task, a.purpose, a.at, a.at, a.size, a.named, a.claim, a.problem, a.contradicting,
          substr(?, {DIGEST} * a.number + 1, {DIGEST}), substr(?, a.start, a.length)
        from ({each}) a
        """,
        # A byte more: a part of nothing would be null.
        *(b"".join(fate.new.digest for fate in fates), b"".join([*(fate.new.body for fate in fates), b"."])),
        encode(rows),
    )


def _repeat(tx: Transaction, fates: Sequence[Fate]) -> None:
    if fates:
        tx.change(
            f"""
            update deliveries set count = deliveries.count + 1, last_at = a.at
            from ({tx.each_row("id bigint", "at double precision")}) a where deliveries.id = a.id
            """,
            encode([(fate.task.twin, fate.now) for fate in fates]),
        )


def _note(tx: Transaction, fates: Sequence[Fate]) -> None:
    """Counts the bodies that were kept; a callback that is a task's own has come, and makes it due."""
    each = tx.each_row("task bigint", "kept bigint", "at double precision", "due double precision")
    tx.change(
        f"""
        update tasks set bodies = tasks.bodies + a.kept, delivered_at = coalesce(tasks.delivered_at, a.at),
          check_at = case when tasks.check_at is null or tasks.check_at > a.due then a.due else tasks.check_at end
        from ({each}) a where tasks.key = a.task and (a.kept = 1 or a.at is not null)
        """,
        encode([(f.task.task, int(f.kept), None if f.contradicting else f.now, f.due) for f in fates]),
    )


def _count(tx: Transaction, fates: Sequence[Fate]) -> None:
    counted = Counter("callbacks_received" if fate.task.twin is None else "callbacks_repeated" for fate in fates)
    # A resend is counted besides: it is rare, and all others were the first callbacks of their tasks.
    counted.update(
        f"{'callbacks_received' if fate.task.twin is None else 'callbacks_repeated'}.{Purpose.RESEND}"
        for fate in fates
        if fate.new.purpose == Purpose.RESEND
    )
    for name, count in counted.items():
        count_up(tx, name, count)


def _answer(fate: Fate) -> Recorded:
    twin = fate.task.twin is not None
    return Recorded(duplicate=twin, due=fate.due is not None, kept=fate.kept or twin)
