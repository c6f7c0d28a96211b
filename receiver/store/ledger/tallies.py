"""Tallies: ends counted by the hour and by the day, and for ever, so that nobody has to count the tasks.

They are written with the event. The events of a ledger that is older than its tallies are counted afterwards, a slice
at a time and in the order of their keys: one that has not had its turn counts as nothing when it is corrected.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import msgspec

from receiver.model.tallies import (
    DELAY,
    MICRO,
    Ended,
    Span,
    Sums,
    Tally,
    bucket,
    difference,
    is_countable,
    spread,
    tallies_of,
    total,
)
from receiver.store.ledger.access import Conditions, decode, encode, marks, reads, record, writes
from receiver.store.ledger.transaction import Row, Transaction

SLICE = 200
"""Events of an older ledger that are counted in one write: a few milliseconds, for which callbacks wait."""
ENDED = """
select e.key, e.state, e.at, e.usage, t.kind, t.target, t.created_at, t.sent_at
from events e join tasks t on t.key = e.task
"""
LATER = "(select 1 from tallied w where w.key = 1 and e.key > w.place and e.key <= w.upto)"
"""The event is one that will have its turn."""


@contextmanager
def tallied(tx: Transaction, task: int, *, is_first: bool = False) -> Iterator[None]:
    """What changes here of the event of a task, by the task's key, is changed in the tallies too.

    The first event is not looked for before it is there.
    """
    before = {} if is_first else _tallies(tx, task)
    yield
    add(tx, difference(_tallies(tx, task), before))


def note(tx: Transaction, measured: Mapping[str, float], kind: str, target: str, now: float) -> None:
    """Counts one more of some measures, each with its seconds, now."""
    lengths = {measure: max(0.0, seconds) for measure, seconds in measured.items()}
    counts = {bucket(measure, length): (1, round(length * MICRO)) for measure, length in lengths.items()}
    add(tx, spread(kind, target, now, counts))


def note_delay(tx: Transaction, task: int, now: float) -> None:
    """A task's first callback came after its end was known."""
    row = tx.one("select kind, target, ended_at from tasks where key = ? and ended_at is not null", task)
    if row is not None:
        note(tx, {DELAY: now - row["ended_at"]}, row["kind"], row["target"], now)


def add(tx: Transaction, sums: Sums) -> None:
    if sums:
        rows = [(*key, n, micro) for key, (n, micro) in sums.items()]
        columns = ("span text", "at bigint", "kind text", "target text", "name text", "n bigint", "micro bigint")
        tx.change(
            f"""
            insert into tallies (span, at, kind, target, name, n, micro)
              select a.span, a.at, a.kind, a.target, a.name, a.n, a.micro from ({tx.each_row(*columns)}) a where 1 = 1
            on conflict (span, at, kind, target, name)
              do update set n = tallies.n + excluded.n, micro = tallies.micro + excluded.micro
            """,
            encode(rows),
        )


def tally_before_removal(tx: Transaction, keys: Sequence[int]) -> None:
    """Counts those of the events that have not had their turn yet: what is removed stays counted."""
    rows = tx.all(f"{ENDED} where e.key in ({marks(keys)}) and exists {LATER}", *keys)
    add(tx, total(map(_sums_of, rows)))


@writes
def tally_older(tx: Transaction) -> bool:
    """Counts the next few events that are older than the tallies. False when there are none left."""
    walk = tx.one("select place, upto from tallied where key = 1")
    rows = tx.all(
        f"{ENDED} where e.key > ? and e.key <= ? order by e.key limit ?", *(walk["place"], walk["upto"], SLICE)
    )
    add(tx, total(map(_sums_of, rows)))
    tx.change("update tallied set place = ? where key = 1", rows[-1]["key"] if len(rows) == SLICE else walk["upto"])
    return len(rows) == SLICE


@reads
def is_tallied(tx: Transaction) -> bool:
    """Whether all that ever ended is counted."""
    return not tx.is_there("select 1 from tallied where key = 1 and place < upto")


@reads
def tallies(
    tx: Transaction, span: Span, since: float | None = None, until: float | None = None, target: str | None = None
) -> list[Tally]:
    """The tallies by the hour, by the day or of all time, oldest first: those that began since and until then."""
    wanted = Conditions()
    wanted.add("span = ?", span)
    wanted.between("at", since, until)
    if target is not None:
        wanted.add("target = ?", target)
    rows = tx.all(f"select * from tallies {wanted.where} and n <> 0 order by at, kind, target, name", *wanted.values)
    return [record(Tally, row) for row in rows]


def _tallies(tx: Transaction, task: int) -> Sums:
    row = tx.one(f"{ENDED} where e.task = ? and not exists {LATER}", task)
    return {} if row is None else _sums_of(row)


def _sums_of(row: Row) -> Sums:
    if not is_countable(row["at"]):
        return {}
    try:
        usage = decode(row["usage"])
    except (ValueError, RecursionError, msgspec.MsgspecError):
        usage = {}  # of another version: the end counts all the same
    told = usage if isinstance(usage, dict) else {}
    return tallies_of(
        Ended(row["kind"], row["target"], row["state"], row["created_at"], row["sent_at"], row["at"], told)
    )
