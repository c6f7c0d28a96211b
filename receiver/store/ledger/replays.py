"""Replays: many actions owed again, or anew, in one transaction; their rate is spread over their due times.

What a cancelled replay had not begun is parked: it is as it was before, and may be taken up again.
"""

from collections import defaultdict

from receiver.model import rules
from receiver.model.entries import Candidate, OwedAction, Selection
from receiver.model.records import Filter, JsonObject, Page, Replay, ReplayMode
from receiver.store.ledger.access import Conditions, encode, marks, reads, record, writes
from receiver.store.ledger.owing import forerunners, owe, release_waiting
from receiver.store.ledger.pages import Range, Table, page_of
from receiver.store.ledger.tasks import task_of
from receiver.store.ledger.transaction import Row, Transaction

TABLE = Table("replays", "created_at", "id")
ACTIONS = "from actions a join tasks t on t.key = a.task"
EVENTS = "from events e join tasks t on t.key = e.task"
UNCERTAIN = "exists (select 1 from events e where e.key = actions.event and e.confirmed = 0)"
"""The event of the action waits to be confirmed: what it holds stays held, whatever hand touches it."""


@reads
def count_retries(tx: Transaction, wanted: Selection) -> int:
    """How many actions `retry` would take up."""
    conditions = _action_conditions(tx, wanted)
    count: int = tx.value(f"select count(*) as value {ACTIONS} {conditions.where}", *conditions.values)
    return count


@writes
def retry(tx: Transaction, wanted: Selection, note: JsonObject, rate: float | None, now: float) -> Replay:
    """The same rows are owed again with a fresh budget of attempts; `rate` is how many become due per second."""
    conditions = _action_conditions(tx, wanted)
    # What the same replay has done within a few seconds is the same button pressed twice.
    conditions.add(
        """
        (a.state <> 'done' or a.replay is null or a.replay not in (
          select id from replays where mode = 'retry' and filter = ? and created_at > ?))
        """,
        encode(note),
        now - rules.PRESSED_TWICE,
    )
    replay = begin(tx, ReplayMode.RETRY, note, rate, now)
    tx.change(
        f"""
        update replays set dropped = dropped + p.n
        from (select a.replay as id, count(*) as n {ACTIONS} {conditions.where} and a.parked = 1 group by a.replay) p
        where replays.id = p.id
        """,
        *conditions.values,
    )
    return matched(tx, replay, _take_up(tx, conditions, replay, rate, now))


@reads
def candidates(tx: Transaction, wanted: Selection) -> list[Candidate]:
    """The ended tasks of a selection, oldest first, with what they owed before."""
    conditions = Conditions()
    conditions.add("t.settled = 1")
    narrow(conditions, wanted, "e.at")
    if wanted.action_state:
        some = f"exists (select 1 from actions a where a.event = e.key and a.state in ({marks(wanted.action_state)}))"
        conditions.add(some, *wanted.action_state)
    owed: dict[int, list[Row]] = defaultdict(list)
    for row in tx.all(
        f"""
        select event, name, generation, state from actions
        where event in (select e.key {EVENTS} {conditions.where})
        """,
        *conditions.values,
    ):
        owed[row["event"]].append(row)
    return [
        Candidate(
            task=task_of(row),
            event=row["event"],
            generation=max((each["generation"] for each in owed[row["event"]]), default=0),
            present=frozenset(each["name"] for each in owed[row["event"]]),
            underway=frozenset(each["name"] for each in owed[row["event"]] if each["state"] in ("owed", "running")),
        )
        for row in tx.all(f"select t.*, e.key as event {EVENTS} {conditions.where} order by e.key", *conditions.values)
    ]


@writes
def owe_anew(
    tx: Transaction,
    mode: ReplayMode,
    owed: list[tuple[Candidate, int, list[OwedAction]]],
    note: JsonObject,
    rate: float | None,
    now: float,
) -> Replay:
    """New actions for events that are long recorded, each candidate with its generation.

    The same `again` within a few seconds is the same button pressed twice: it is answered with the first one.
    """
    pressed = _pressed(tx, note, rate, now) if mode is ReplayMode.AGAIN else None
    if pressed is not None:
        return _replay_of(pressed)
    replay = begin(tx, mode, note, rate, now)
    written = 0
    for candidate, generation, actions in owed:
        due = now + written * spacing(rate)
        event, task = candidate.event, candidate.task.key
        written += owe(tx, event, task, actions, now, generation=generation, replay=replay, due_at=due)
    return matched(tx, replay, written)


@reads
def replay(tx: Transaction, replay_id: int) -> Replay | None:
    """A replay and how far it is."""
    return _found(tx, replay_id)


@writes
def cancel_replay(tx: Transaction, replay_id: int, now: float) -> Replay | None:
    """What a replay has not begun is as it was before it; what runs, ends. None when there is no such replay."""
    parked = tx.all(
        """
        update actions set state = coalesce(before_replay, 'skipped'), due_at = null, settled_at = ?,
          reason = 'its replay was cancelled', parked = 1
        where replay = ? and state = 'owed' and attempts = 0 returning event
        """,
        *(now, replay_id),
    )
    for event in {row["event"] for row in parked}:
        release_waiting(tx, event, now)
    tx.change("update replays set cancelled_at = coalesce(cancelled_at, ?) where id = ?", now, replay_id)
    return _told(tx, _found(tx, replay_id))


@writes
def resume_replay(tx: Transaction, replay_id: int, now: float) -> Replay | None:
    """What the replay's cancellation stopped is owed again, at its rate. None when there is no such replay."""
    row = tx.one("select rate from replays where id = ?", replay_id)
    if row is None:
        return None
    conditions = Conditions()
    conditions.add("a.replay = ? and a.parked = 1", replay_id)
    _only_configured(tx, conditions)
    conditions.among("a.state", rules.REPLAYABLE)
    _take_up(tx, conditions, replay_id, row["rate"], now)
    tx.change("update replays set cancelled_at = null where id = ?", replay_id)
    return _told(tx, _found(tx, replay_id))


@reads
def replays(tx: Transaction, wanted: Filter) -> Page[Replay]:
    """A page of replays, newest first."""
    select = "select * from replays where id in ({keys})"
    return page_of(tx, [Range(TABLE, "1 = 1")], wanted, select, _replay_of)


def _take_up(tx: Transaction, conditions: Conditions, replay: int, rate: float | None, now: float) -> int:
    """The chosen actions are owed with a fresh budget of attempts. How many they are.

    Those whose forerunners are on their way wait for them, as they did the first time.
    """
    taken = tx.change(
        f"""
        update actions set state = 'owed', attempts = 0, crashes = 0, settled_at = null, parked = 0, reason = null,
          held = case when {UNCERTAIN} then actions.held else 0 end, before_replay = actions.state, replay = ?,
          due_at = ? + p.place * ?
        from (select a.id, row_number() over (order by a.id) - 1 as place {ACTIONS} {conditions.where}) p
        where actions.id = p.id
        """,
        *(replay, now, spacing(rate), *conditions.values),
    )
    tx.change(
        f"""
        update actions set due_at = null
        where replay = ? and coalesce(state, '') = 'owed' and attempts = 0 and (held = 1 or (after <> '[]'
          and exists ({forerunners(tx)} and f.state in ('owed', 'running'))))
        """,
        replay,
    )
    return taken


def spacing(rate: float | None) -> float:
    """Seconds from one action of a replay to the next."""
    return 1.0 / rate if rate else 0.0


def begin(tx: Transaction, mode: ReplayMode, note: JsonObject, rate: float | None, now: float) -> int:
    """The number of a new replay."""
    sql = "insert into replays (mode, filter, rate, created_at, matched) values (?, ?, ?, ?, 0) returning id as value"
    return int(tx.value(sql, mode, encode(note), rate, now))


def matched(tx: Transaction, replay: int, count: int) -> Replay:
    """The replay, after it was found to be about `count` rows."""
    made = _replay_of(tx.one("update replays set matched = ? where id = ? returning *", count, replay))
    tx.changed("replay", replay, made.state)
    return made


def narrow(conditions: Conditions, wanted: Selection, time: str) -> None:
    conditions.among("t.state", wanted.task_state)
    if wanted.task is not None:
        conditions.add("t.id = ?", wanted.task)
    conditions.between(time, wanted.since, wanted.until)


def _only_configured(tx: Transaction, conditions: Conditions) -> None:
    """What nobody would run is not owed again."""
    names = [row["name"] for row in tx.all("select name from definitions where configured = 1")]
    conditions.add(f"a.name in ({marks(names)})", *names)


def _told(tx: Transaction, found: Replay | None) -> Replay | None:
    """The replay, after it was told how it stands."""
    if found is not None:
        tx.changed("replay", found.id, found.state)
    return found


def _found(tx: Transaction, replay: int) -> Replay | None:
    row = tx.one("select * from replays where id = ?", replay)
    return None if row is None else _replay_of(row)


def _pressed(tx: Transaction, note: JsonObject, rate: float | None, now: float) -> Row | None:
    """The `again` of a moment ago that is the same and was not cancelled."""
    row: Row | None = tx.one(
        """
        select * from replays where mode = 'again' and filter = ? and rate is not distinct from ? and created_at > ?
          and cancelled_at is null order by id desc limit 1
        """,
        *(encode(note), rate, now - rules.PRESSED_TWICE),
    )
    return row


def _action_conditions(tx: Transaction, wanted: Selection) -> Conditions:
    conditions = Conditions()
    if wanted.action is not None:
        conditions.add("a.id = ?", wanted.action)
    if wanted.name is not None:
        conditions.add("a.name = ?", wanted.name)
    states = [state for state in wanted.action_state or ("dead",) if state in rules.REPLAYABLE]
    conditions.add(f"a.state in ({marks(states)})", *states)
    _only_configured(tx, conditions)
    narrow(conditions, wanted, "a.created_at")
    return conditions


def _replay_of(row: Row) -> Replay:
    """`open`, `parked` and `dead` count the actions of the replay; every change of an action keeps them."""
    cancelled = row["parked"] + row["dropped"]
    return record(
        Replay,
        row,
        done=row["matched"] - row["open"] - cancelled,
        cancelled=cancelled,
        state="running" if row["open"] else "cancelled" if cancelled else "done",
        finished_at=None if row["open"] else row["settled_at"] or row["created_at"],
    )
