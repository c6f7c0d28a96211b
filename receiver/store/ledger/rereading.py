"""Kept deliveries, read anew by a parser that knows more than the one that read them when they came."""

from itertools import accumulate

from receiver.model import rules
from receiver.model.entries import Reading, Search, Selection, Slice
from receiver.store.ledger.access import Conditions, encode, encode_some, reads, writes
from receiver.store.ledger.replays import add_matched, advance, narrow, spacing
from receiver.store.ledger.tallies import tallied
from receiver.store.ledger.transaction import Transaction

DELIVERIES = "from deliveries d join tasks t on t.key = d.task"


@reads
def kept_deliveries(tx: Transaction, work: Search) -> Slice[int]:
    """The next deliveries whose bytes were kept whole, oldest first: a few, and no more bytes than one may have."""
    conditions = _delivery_conditions(work.selection)
    conditions.add("d.id > ? and d.id <= ?", work.place, work.upto)
    sql = f"select d.id, d.size {DELIVERIES} {conditions.where} order by d.id limit ?"
    rows = tx.all(sql, *conditions.values, rules.REPLAY_SLICE)
    sizes = accumulate(row["size"] for row in rows)
    found = [row["id"] for row, size in zip(rows, sizes, strict=True) if size <= rules.REPLAY_BYTES]
    found = found or [row["id"] for row in rows[:1]]
    more = bool(rows) and (len(found) < len(rows) or len(rows) == rules.REPLAY_SLICE)
    return Slice(items=found, place=(0.0, found[-1] if found else work.place), more=more)


@reads
def count_kept_deliveries(tx: Transaction, wanted: Selection) -> int:
    conditions = _delivery_conditions(wanted)
    count: int = tx.value(f"select count(*) as value {DELIVERIES} {conditions.where}", *conditions.values)
    return count


@writes
def reread(tx: Transaction, work: Search, found: Slice[Reading], now: float) -> None:
    """Writes what deliveries say now. Tasks whose end is not certain are due, spread by the replay's rate."""
    if not advance(tx, work, found):
        return
    for place, reading in enumerate(found.items, work.matched):
        _reread(tx, reading, max(now, work.created_at + place * spacing(work.rate)))
    add_matched(tx, work, len(found.items))


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
    with tallied(tx, stored["task"]):
        tx.change(
            """
            update events set results = ?, error = ?, usage = ?, extra = ?
            where task = ? and confirmed = 0 and state = ?
            """,
            *(encode(reading.results), encode_some(reading.error), encode(reading.usage), encode(reading.extra)),
            *(stored["task"], reading.claim),
        )


def _delivery_conditions(wanted: Selection) -> Conditions:
    conditions = Conditions()
    conditions.add("d.size <= length(d.body)")
    narrow(conditions, wanted, "d.received_at")
    return conditions
