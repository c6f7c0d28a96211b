"""What is owed for tasks that ended before: today's definitions, beside those that an event has actions of."""

from collections import defaultdict
from collections.abc import Sequence

import msgspec

from receiver.model import rules
from receiver.model.entries import Candidate, OwedAction, Search, Slice
from receiver.model.records import End
from receiver.store.ledger.access import Conditions, reads, writes
from receiver.store.ledger.owing import owe
from receiver.store.ledger.replays import add_matched, advance, narrow, spacing
from receiver.store.ledger.transaction import Row, Transaction

Labels = dict[str, str]
LABELS = msgspec.json.Decoder(Labels)
Owed = tuple[Candidate, int, list[OwedAction]]
"""An ended task, the generation of what is owed for it now, and what that is."""


@reads
def candidates(tx: Transaction, work: Search) -> Slice[Candidate]:
    """The next ended tasks that a replay may owe something for, with what they owed before."""
    assert work.upto is not None
    last = min(work.upto, work.place + rules.REPLAY_STRIDE)
    conditions = Conditions()
    conditions.add("e.key > ? and e.key <= ? and t.settled = 1", work.place, last)
    narrow(conditions, work.selection, "e.at")
    rows = tx.all(
        f"""
        select e.key as event, t.key as task, t.state, t.target, t.labels
        from events e join tasks t on t.key = e.task {conditions.where} order by e.key limit ?
        """,
        *(*conditions.values, rules.REPLAY_SLICE),
    )
    if len(rows) == rules.REPLAY_SLICE:
        last = rows[-1]["event"]
    owed = _owed_before(tx, rows)
    found = [_candidate(row, owed[row["event"]]) for row in rows if _is_wanted(owed[row["event"]], work)]
    return Slice(items=found, place=(0.0, last), more=last < work.upto)


@writes
def owe_anew(tx: Transaction, work: Search, found: Slice[Owed], now: float) -> None:
    """New actions for events that are long recorded."""
    if not advance(tx, work, found):
        return
    written = 0
    for candidate, generation, actions in found.items:
        due = work.created_at + (work.matched + written) * spacing(work.rate)
        event, task = candidate.event, candidate.task
        written += owe(tx, event, task, actions, now, generation=generation, replay=work.id, due_at=due)
    add_matched(tx, work, written)


def _owed_before(tx: Transaction, rows: Sequence[Row]) -> dict[int, list[Row]]:
    """The actions of some events, by event."""
    owed: dict[int, list[Row]] = defaultdict(list)
    if rows:
        sql = "select event, name, generation, state from actions where event >= ? and event <= ?"
        for row in tx.all(sql, rows[0]["event"], rows[-1]["event"]):
            owed[row["event"]].append(row)
    return owed


def _is_wanted(owed: Sequence[Row], work: Search) -> bool:
    states = work.selection.action_state
    return not states or any(each["state"] in states for each in owed)


def _candidate(row: Row, owed: Sequence[Row]) -> Candidate:
    return Candidate(
        task=row["task"],
        event=row["event"],
        state=End(row["state"]),
        target=row["target"],
        labels=_labels(row["labels"]),
        generation=max((each["generation"] for each in owed), default=0),
        present=frozenset(each["name"] for each in owed),
        underway=frozenset(each["name"] for each in owed if each["state"] in ("owed", "running")),
    )


def _labels(text: str) -> Labels:
    """Labels that another version wrote, and that cannot be read, match nothing."""
    try:
        return LABELS.decode(text)
    except msgspec.MsgspecError:
        return {}
