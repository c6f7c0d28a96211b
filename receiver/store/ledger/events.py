"""Events: how tasks ended. An event and the actions it owes are written in one transaction, whoever tells it."""

from collections.abc import Sequence

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.entries import NewEvent, OwedAction, Telling
from receiver.model.records import (
    AlertKind,
    End,
    Event,
    Filter,
    Line,
    Page,
    Result,
    SavedFile,
    Task,
    TaskState,
    event_id,
)
from receiver.model.tallies import DELAY, LAG
from receiver.store.ledger.access import Conditions, encode, encode_some, marks, reads, record, writes
from receiver.store.ledger.alerts import open_alert
from receiver.store.ledger.owing import owe, owe_anew, release_waiting, skip_held
from receiver.store.ledger.pages import Range, Table, as_shown, page_of, words
from receiver.store.ledger.search import labelled, rarest_first
from receiver.store.ledger.tallies import note, tallied
from receiver.store.ledger.tasks import set_state
from receiver.store.ledger.transaction import Row, Transaction

TABLE = Table("events", "at", "key")
ENDS = Table("task_labels", "ended_at", "task")
"""The same by label: an event is at the end of its task."""
SHOWN = ", ".join(f"e.{name}" for name in Event.__struct_fields__ if name != "task")
SELECT = f"select {SHOWN}, e.key, e.task, t.id as task_id from events e join tasks t on t.key = e.task"


@writes
def record_event(tx: Transaction, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
    """Writes how a task ended and what that owes, once; a later telling confirms it, contradicts it or is known.

    When a callback URL was sent and no callback came, the task stays due, so that the callback is looked for.
    """
    known = tx.one("select * from events where task = ?", new.task.key)
    if known is not None and (known["confirmed"] or not new.confirmed):
        return Telling.KNOWN
    with tallied(tx, new.task.key, is_first=known is None):
        if known is None:
            return _record_first(tx, new, owed, now)
        if known["state"] == new.state:
            return _confirm(tx, known, new, owed, now)
        return _contradict(tx, known, new, owed, now)


@writes
def refresh_results(tx: Transaction, task: Task, results: Sequence[Result]) -> None:
    """New links for the results of an ended task, in place of links that are refused."""
    tx.change("update events set results = ? where task = ?", encode(results), task.key)
    tx.change("update tasks set refresh = 2 where key = ?", task.key)


@reads
def event(tx: Transaction, task_id: str) -> Event | None:
    """The event of a task, by the task's public id, with the files that were saved."""
    row = tx.one(f"{SELECT} where t.id = ?", task_id)
    return None if row is None else with_files(tx, row, row["task_id"])


@reads
def events(tx: Transaction, wanted: Filter) -> Page[Event]:
    """A page of events, newest first; state is how the task ended."""
    also, labels, table, key = Conditions(), list(wanted.label), TABLE, "key"
    also.add("1 = 1")
    if wanted.task is not None:
        also.add("task = (select key from tasks where id = ?)", wanted.task)
    elif labels:
        first, *labels = rarest_first(tx, labels)
        also.add("name = ? and value = ? and ended_at is not null", *first)
        table, key = ENDS, "task"
    its_task = "w.place" if key == "task" else "(select e.task from events e where e.key = w.place)"
    held = labelled(labels, task=its_task)
    where = " and ".join(also.texts)
    ranges = [
        Range(table, f"{where} and state = ?", (*also.values, state), *held)
        for state in words(tx, table.name, "state", where, also.values)
        if not wanted.state or state in wanted.state
    ]
    return page_of(
        *(tx, ranges, wanted, f"{SELECT} where e.{key} in ({{keys}})"),
        lambda row: with_files(tx, row, row["task_id"]),
        key=key,
    )


@reads
def event_shown(tx: Transaction, task_id: str) -> Event | None:
    """The same for somebody who looks: what cannot be read of it is left out."""
    row = tx.one(f"{SELECT} where t.id = ?", task_id)
    return None if row is None else as_shown(lambda each: with_files(tx, each, task_id), row)


@reads
def saved_files(tx: Transaction, task: Task, result: int) -> list[SavedFile]:
    """Where a result of a task was saved."""
    sql = "select result, path, sha256, size from files where task = ? and result = ? order by path"
    return [record(SavedFile, row) for row in tx.all(sql, task.key, result)]


def with_files(tx: Transaction, row: Row, task_id: str) -> Event:
    """An event whose results name the files they were saved under."""
    event = record(Event, row, task=task_id)
    sql = "select result, min(path) as path from files where task = ? group by result"
    saved = {file["result"]: file["path"] for file in tx.all(sql, row["task"])}
    if not saved:
        return event
    results = [replace(result, file=saved.get(index)) for index, result in enumerate(event.results)]
    return replace(event, results=results)


def _record_first(tx: Transaction, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
    if not _move(tx, new, now):
        return Telling.ILLEGAL
    row = tx.one(
        """
        insert into events (id, task, state, source, confirmed, at, no_results, results, error, usage, extra)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) returning key
        """,
        *(event_id(new.task.id), new.task.key, new.state, new.source, int(new.confirmed), now, *_content(new)),
    )
    owe(tx, row["key"], new.task.key, owed, now)
    _note_callback(tx, new, now)
    _watch(tx, new, now)
    return Telling.NEW


def _note_callback(tx: Transaction, new: NewEvent, now: float) -> None:
    """The callback told the end, or was here before it was known: how long the event took from there."""
    came: float | None = tx.value("select delivered_at as value from tasks where key = ?", new.task.key)
    if came is not None:
        measured = {DELAY: 0.0, f"{LAG}.{new.source}": now - came}
        note(tx, measured, new.task.kind, new.task.target, now)


def _confirm(tx: Transaction, known: Row, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
    if _differs(known, new):
        owe_anew(tx, known["key"], new.task.key, owed, now)
    tx.change(
        """
        update events set confirmed = 1, no_results = ?, results = ?, error = ?, usage = ?, extra = ? where key = ?
        """,
        *(*_content(new), known["key"]),
    )
    sets, told = "settled = 1, provider_status = ?", _told(new)
    set_state(tx, new.task.key, sets, new.provider_status, among=(new.state,), now=now, told=told)
    tx.change("update actions set held = 0 where event = ?", known["key"])
    release_waiting(tx, known["key"], now)
    _watch(tx, new, now)
    return Telling.CONFIRMED


def _contradict(tx: Transaction, known: Row, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
    """The provider denies what an unconfirmed callback claimed: the state follows it, nothing is undone."""
    if not _move(tx, new, now):
        return Telling.ILLEGAL
    tx.change(
        """
        update events set state = ?, confirmed = 1, contradicted = 1, no_results = ?, results = ?, error = ?, usage = ?,
          extra = ? where key = ?
        """,
        *(new.state, *_content(new), known["key"]),
    )
    # What waited for certainty is owed for the true end too, or was owed for the false one alone.
    names = [action.name for action in owed if not action.held]
    tx.change(
        f"update actions set held = 0 where event = ? and coalesce(state, '') = 'owed' and name in ({marks(names)})",
        *(known["key"], *names),
    )
    skip_held(tx, known["key"], "the provider denied the callback", now)
    owe_anew(tx, known["key"], new.task.key, owed, now)
    owe(tx, known["key"], new.task.key, owed, now)
    message = f"a callback claimed that task {new.task.id} had {known['state']}; the provider says {new.state}"
    open_alert(tx, AlertKind.EVENT_CONTRADICTED, new.task.id, message, now)
    _watch(tx, new, now)
    return Telling.CONTRADICTED


def _differs(known: Row, new: NewEvent) -> bool:
    """Whether what an action works on is not what was recorded: the links and texts, or the error's code."""
    before = record(Event, known, task=new.task.id)
    told = [[(each.url, each.text) for each in results] for results in (before.results, new.results)]
    return told[0] != told[1] or (before.error and before.error.code) != (new.error and new.error.code)


def _move(tx: Transaction, new: NewEvent, now: float) -> bool:
    """The task's own move to its end; False when the table of moves does not allow it."""
    return set_state(
        tx,
        new.task.key,
        "state = ?, ended_at = coalesce(ended_at, ?), error = ?, settled = ?, provider_status = ?, holder = null,"
        " held_until = null",
        *(new.state, now, encode_some(new.error), int(new.settled), new.provider_status),
        among=(new.only_from,) if new.only_from else rules.sources(TaskState(new.state)),
        now=now,
        told=_told(new),
    )


def _told(new: NewEvent) -> Line:
    """What the log says of an end: how it was learned, whether RunningHub confirmed it, and what went wrong."""
    error = f"{new.error.code} {new.error.name}" if new.error else None
    return {
        "target": new.task.target,
        "provider_task_id": new.task.provider_task_id,
        "source": new.source.value,
        "confirmed": new.confirmed,
        "error": error,
    }


def _watch(tx: Transaction, new: NewEvent, now: float) -> None:
    """After the end: look for the callback that should have come, ask on while the end is unconfirmed, or rest."""
    if not new.settled:
        tx.change("update tasks set check_at = ? where key = ?", now + rules.UNSURE_REST, new.task.key)
        return
    tx.change("update tasks set miss = null, check_at = null where key = ?", new.task.key)
    if new.state is End.CANCELLED:
        # Nothing says that a cancelled task calls back, so its silence is no miss.
        return
    tx.change(
        """
        update tasks set miss = 'watching', check_at = ?
        where key = ? and callback = 1 and delivered_at is null and provider_task_id is not null
        """,
        *(now, new.task.key),
    )


def _content(new: NewEvent) -> tuple[int, str, str | None, str, str]:
    error = encode_some(new.error)
    return (int(new.no_results), encode(new.results), error, encode(new.usage), encode(new.extra))
