"""Kept deliveries, read anew by a parser that knows more than the one that read them when they came."""

from collections.abc import Sequence

from receiver.model.entries import Reading, Selection
from receiver.model.records import JsonObject, Replay, ReplayMode
from receiver.store.ledger.access import Conditions, encode, encode_some, reads, writes
from receiver.store.ledger.replays import begin, matched, narrow, spacing
from receiver.store.ledger.transaction import Transaction

DELIVERIES = "from deliveries d join tasks t on t.key = d.task"


@reads
def kept_deliveries(tx: Transaction, wanted: Selection, after: int, limit: int) -> list[int]:
    """The deliveries of a selection whose bytes were kept whole, oldest first, beyond the one numbered `after`."""
    conditions = _delivery_conditions(wanted)
    conditions.add("d.id > ?", after)
    rows = tx.all(f"select d.id {DELIVERIES} {conditions.where} order by d.id limit ?", *conditions.values, limit)
    return [row["id"] for row in rows]


@reads
def count_kept_deliveries(tx: Transaction, wanted: Selection) -> int:
    conditions = _delivery_conditions(wanted)
    count: int = tx.value(f"select count(*) as value {DELIVERIES} {conditions.where}", *conditions.values)
    return count


@writes
def begin_rereading(tx: Transaction, note: JsonObject, rate: float | None, now: float) -> int:
    """A replay of deliveries, begun; its number."""
    return begin(tx, ReplayMode.REPROCESS, note, rate, now)


@writes
def reread(tx: Transaction, replay: int, readings: Sequence[Reading], now: float) -> Replay:
    """Writes what deliveries say now. Tasks whose end is not certain are due, spread by the replay's rate."""
    begun = tx.one("select created_at, rate, matched from replays where id = ?", replay)
    for place, reading in enumerate(readings, begun["matched"]):
        _reread(tx, reading, max(now, begun["created_at"] + place * spacing(begun["rate"])))
    return matched(tx, replay, begun["matched"] + len(readings))


def _reread(tx: Transaction, reading: Reading, due: float) -> None:
    stored = tx.one(
        """
        update deliveries set problem = ?, claim = ?, provider_task_id = ?, contradicting = coalesce((
          select 1 from tasks where key = deliveries.task and provider_task_id <> ?), 0)
        where id = ? returning task, contradicting
        """,
        *(reading.problem, reading.claim, reading.provider_task_id, reading.provider_task_id, reading.delivery),
    )
    if stored is None or reading.problem is not None or stored["contradicting"]:
        return
    tx.change(
        """
        update tasks set check_at = case when check_at is null or check_at > ? then ? else check_at end
        where key = ? and settled = 0 and state <> 'queued'
        """,
        *(due, due, stored["task"]),
    )
    # An event that rests on the provider's own answer is not touched by what a stranger posted.
    tx.change(
        "update events set results = ?, error = ?, usage = ?, extra = ? where task = ? and confirmed = 0 and state = ?",
        *(encode(reading.results), encode_some(reading.error), encode(reading.usage), encode(reading.extra)),
        *(stored["task"], reading.claim),
    )


def _delivery_conditions(wanted: Selection) -> Conditions:
    conditions = Conditions()
    conditions.add("d.size <= length(d.body)")
    narrow(conditions, wanted, "d.received_at")
    return conditions
