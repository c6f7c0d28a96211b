"""Replays: many actions owed again, a slice at a time; their rate is spread over their due times.

A replay looks for what it is about from one place to the next, and writes the place down with what it found there: so
it goes on where it was, whoever goes on with it. What a cancelled replay had not begun is parked: it is as it was
before, and may be taken up again.
"""

from collections.abc import Sequence
from typing import TypeVar

from receiver.model import rules
from receiver.model.entries import Replay, Search, Selection, Slice, Turn
from receiver.model.records import Filter, JsonObject, Page, ReplayMode
from receiver.store.ledger.access import Conditions, encode, marks, reads, record, writes
from receiver.store.ledger.owing import forerunners, release_waiting
from receiver.store.ledger.pages import Range, Table, page_of
from receiver.store.ledger.transaction import Row, Transaction

T = TypeVar("T")

TABLE = Table("replays", "created_at", "id")
ACTIONS = "from actions a join tasks t on t.key = a.task"
SEARCHED = {ReplayMode.RETRY: ("actions", "id"), ReplayMode.REPROCESS: ("deliveries", "id")}
"""What a replay goes through, and its key; all others go through the events."""
AT_WORK = "(turn is not null or (upto is not null and cancelled_at is null))"
UNCERTAIN = "exists (select 1 from events e where e.key = actions.event and e.confirmed = 0)"
"""The event of the action waits to be confirmed: what it holds stays held, whatever hand touches it."""


@reads
def count_retries(tx: Transaction, wanted: Selection) -> int:
    """How many actions `retry` would take up."""
    conditions = Conditions()
    conditions.among("a.state", _states(wanted))
    conditions.among("a.name", _configured(tx, wanted))
    if wanted.action is not None:
        conditions.add("a.id = ?", wanted.action)
    narrow(conditions, wanted, "a.created_at")
    count: int = tx.value(f"select count(*) as value {ACTIONS} {conditions.where}", *conditions.values)
    return count


@writes
def begin_replay(
    tx: Transaction, mode: ReplayMode, wanted: Selection, note: JsonObject, rate: float | None, now: float
) -> Replay:
    """A new replay, which has yet to look for what it is about.

    The same `again` within a few seconds is the same button pressed twice: it is answered with the first one.
    """
    pressed = _pressed(tx, note, rate, now) if mode is ReplayMode.AGAIN else None
    if pressed is not None:
        return _replay_of(pressed)
    plan = _plan(tx, mode, wanted, now)
    row = tx.one(
        """
        insert into replays (mode, filter, rate, created_at, matched, selection, place, upto)
        values (?, ?, ?, ?, 0, ?, ?, ?) returning *
        """,
        *(mode, encode(note), rate, now, encode(wanted), plan.place, plan.upto),
    )
    return _told(tx, _replay_of(row))


@reads
def plan_search(tx: Transaction, mode: ReplayMode, wanted: Selection, now: float) -> Search:
    """The search of a replay that is not begun: where it would begin, and where it would end."""
    return _plan(tx, mode, wanted, now)


@reads
def search(tx: Transaction, replay_id: int | None = None) -> Search | None:
    """How far a replay has come, or the oldest one of which something is to be done; None when nothing is."""
    one = "" if replay_id is None else "and id = ?"
    row = tx.one(f"select * from replays where {AT_WORK} {one} order by id limit 1", *([replay_id] if one else []))
    return None if row is None else record(Search, row)


@reads
def find_retried(tx: Transaction, work: Search) -> Slice[int]:
    """The next actions that a `retry` takes up, oldest first; those of an event together, as they may wait in line."""
    wanted = work.selection
    beyond = Conditions()
    beyond.add("(created_at, id) > (?, ?) and id <= ?", work.place_at, work.place, work.upto)
    beyond.between("created_at", wanted.since, wanted.until)
    looked: list[Row] = []
    for where in _ranges(tx, wanted):
        looked += tx.all(
            f"select created_at, id from actions {where.where} and {' and '.join(beyond.texts)}"
            " order by created_at, id limit ?",
            *(*where.values, *beyond.values, rules.REPLAY_SLICE),
        )
    places = sorted((row["created_at"], row["id"]) for row in looked)[: rules.REPLAY_SLICE]
    if not places:
        return Slice(items=[], place=(work.place_at, work.place), more=False)
    ids = [number for _, number in places]
    also = Conditions()
    also.add(f"a.event in (select event from actions where id in ({marks(ids)})) and a.id <= ?", *ids, work.upto)
    also.among("coalesce(a.state, '')", _states(wanted))
    also.among("coalesce(a.name, '')", _configured(tx, wanted))
    narrow(also, wanted, "a.created_at")
    if wanted.action is not None:
        also.add("a.id = ?", wanted.action)
    found = [row["id"] for row in tx.all(f"select a.id {ACTIONS} {also.where} order by a.id", *also.values)]
    return Slice(items=found, place=places[-1], more=len(places) == rules.REPLAY_SLICE)


@writes
def retry(tx: Transaction, work: Search, found: Slice[int], now: float) -> None:
    """Actions are owed again with a fresh budget of attempts; `rate` is how many become due per second."""
    if not advance(tx, work, found):
        return
    conditions = Conditions()
    conditions.add(f"a.id in ({marks(found.items)})", *found.items)
    conditions.among("a.state", _states(work.selection))
    # None comes twice; and what the same replay has done within a few seconds is the same button pressed twice.
    conditions.add(
        """
        (a.replay is null or a.replay <> ?) and (a.state <> 'done' or a.replay is null or a.replay not in (
          select id from replays where mode = 'retry' and created_at > ?
            and filter = (select filter from replays where id = ?)))
        """,
        *(work.id, work.created_at - rules.PRESSED_TWICE, work.id),
    )
    tx.change(
        f"""
        update replays set dropped = dropped + p.n
        from (select a.replay as id, count(*) as n from actions a {conditions.where} and a.parked = 1
          group by a.replay) p
        where replays.id = p.id
        """,
        *conditions.values,
    )
    add_matched(tx, work, _take_up(tx, conditions, work, work.created_at + work.matched * spacing(work.rate)))


@reads
def replay(tx: Transaction, replay_id: int) -> Replay | None:
    """A replay and how far it is."""
    row = tx.one("select * from replays where id = ?", replay_id)
    return None if row is None else _replay_of(row)


@writes
def cancel_replay(tx: Transaction, replay_id: int, now: float) -> Replay | None:
    """A replay looks no further; what it has not begun has yet to be given back. None when there is no such replay."""
    change = "cancelled_at = coalesce(cancelled_at, ?), turn = ?"
    return _turned(tx, replay_id, change, now, Turn.CANCEL)


@writes
def resume_replay(tx: Transaction, replay_id: int, now: float) -> Replay | None:
    """What the replay's cancellation stopped goes on from `now`, at its rate. None when there is no such replay."""
    # What becomes due is spread from the moment at which it was resumed.
    return _turned(tx, replay_id, "cancelled_at = null, turn = ?, resumed_at = ?, resumed = 0", Turn.RESUME, now)


@writes
def park(tx: Transaction, work: Search, now: float) -> None:
    """A slice of what a cancelled replay has not begun is as it was before it."""
    ids = _next(tx, "state = 'owed' and attempts = 0", work)
    parked = tx.all(
        f"""
        update actions set state = coalesce(before_replay, 'skipped'), due_at = null, settled_at = ?,
          reason = 'its replay was cancelled', parked = 1
        where id in ({marks(ids)})
        returning id, state, event, (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(now, *ids),
    )
    _tell_actions(tx, parked)
    for event in {row["event"] for row in parked}:
        release_waiting(tx, event, now)
    _end_turn(tx, work, more=bool(ids))


@writes
def unpark(tx: Transaction, work: Search, now: float) -> None:
    """A slice of what the replay's cancellation stopped is owed again, at its rate."""
    names, states = _configured(tx, Selection()), rules.REPLAYABLE
    chosen = f"parked = 1 and coalesce(name, '') in ({marks(names)}) and coalesce(state, '') in ({marks(states)})"
    ids = _next(tx, chosen, work, *names, *states)
    conditions = Conditions()
    conditions.add(f"a.id in ({marks(ids)})", *ids)
    resumed = tx.one("select resumed_at, resumed from replays where id = ?", work.id)
    due = resumed["resumed_at"] + resumed["resumed"] * spacing(work.rate)
    taken = _take_up(tx, conditions, work, due)
    tx.change("update replays set resumed = resumed + ? where id = ?", taken, work.id)
    _end_turn(tx, work, more=bool(ids))


@reads
def replays(tx: Transaction, wanted: Filter) -> Page[Replay]:
    """A page of replays, newest first."""
    select = "select * from replays where id in ({keys})"
    return page_of(tx, [Range(TABLE, "1 = 1")], wanted, select, _replay_of)


def advance(tx: Transaction, work: Search, found: Slice[T]) -> bool:
    """The search has come to another place. False when somebody else took it further, or cancelled it, meanwhile."""
    at, key = found.place
    return bool(
        tx.change(
            """
            update replays set place_at = ?, place = ?, upto = ?
            where id = ? and place_at = ? and place = ? and upto is not null and turn is null and cancelled_at is null
            """,
            *(at, key, work.upto if found.more else None, work.id, work.place_at, work.place),
        )
    )


def _plan(tx: Transaction, mode: ReplayMode, wanted: Selection, now: float) -> Search:
    table, key = SEARCHED.get(mode, ("events", "key"))
    about = Conditions()
    if wanted.task is not None:
        about.add("task = (select key from tasks where id = ?)", wanted.task)
    bounds = [
        tx.value(f"select {best}({key}) as value from {table} {about.where}", *about.values) for best in ("min", "max")
    ]
    return Search(
        id=0,
        mode=mode,
        selection=wanted,
        rate=None,
        created_at=now,
        matched=0,
        place_at=0.0,
        place=(bounds[0] or 0) - 1,
        upto=bounds[1],
        turn=None,
    )


def add_matched(tx: Transaction, work: Search, count: int) -> None:
    """The replay was found to be about `count` rows more."""
    row = tx.one("update replays set matched = matched + ? where id = ? returning *", count, work.id)
    _told(tx, _replay_of(row))


def spacing(rate: float | None) -> float:
    """Seconds from one action of a replay to the next."""
    return 1.0 / rate if rate else 0.0


def narrow(conditions: Conditions, wanted: Selection, time: str) -> None:
    conditions.among("t.state", wanted.task_state)
    if wanted.task is not None:
        conditions.add("t.id = ?", wanted.task)
    conditions.between(time, wanted.since, wanted.until)


def _ranges(tx: Transaction, wanted: Selection) -> list[Conditions]:
    """The ranges of actions that a `retry` goes through: one for each pair of name and state, or a task's, or one."""
    if wanted.action is not None or wanted.task is not None:
        one = Conditions()
        if wanted.action is not None:
            one.add("id = ?", wanted.action)
        if wanted.task is not None:
            one.add("task = (select key from tasks where id = ?)", wanted.task)
        return [one]
    names, states = _configured(tx, wanted), _states(wanted)
    ranges = []
    for row in tx.all("select name, state from action_counts where n > 0"):
        if row["name"] in names and row["state"] in states:
            each = Conditions()
            each.add("name = ? and state = ?", row["name"], row["state"])
            ranges.append(each)
    return ranges


def _states(wanted: Selection) -> list[str]:
    """The states of the actions that a `retry` takes up."""
    return [state for state in wanted.action_state or ("dead",) if state in rules.REPLAYABLE] or [""]


def _configured(tx: Transaction, wanted: Selection) -> list[str]:
    """The names that are wanted: what nobody would run is not owed again."""
    names = [row["name"] for row in tx.all("select name from definitions where configured = 1")]
    return [name for name in names if wanted.name in (None, name)] or [""]


def _next(tx: Transaction, chosen: str, work: Search, *values: object) -> list[int]:
    """The next few of a replay's actions that are `chosen`, each with those of its event: they wait for one another."""
    first = f"select event from actions where replay = ? and {chosen} order by id limit ?"
    # The coalesce keeps the planner from going through all actions of the replay instead of those of the events.
    sql = f"select id from actions where event in ({first}) and coalesce(replay, 0) = ? and {chosen}"
    rows = tx.all(sql, *(work.id, *values, rules.REPLAY_SLICE), *(work.id, *values))
    return [row["id"] for row in rows]


def _take_up(tx: Transaction, conditions: Conditions, work: Search, due: float) -> int:
    """The chosen actions are owed with a fresh budget of attempts, from `due` on. How many they are.

    Those whose forerunners are on their way wait for them, as they did the first time.
    """
    taken = tx.all(
        f"""
        update actions set state = 'owed', attempts = 0, crashes = 0, settled_at = null, parked = 0, reason = null,
          held = case when {UNCERTAIN} then actions.held else 0 end, before_replay = actions.state, replay = ?,
          due_at = ? + p.place * ?
        from (select a.id, row_number() over (order by a.id) - 1 as place from actions a {conditions.where}) p
        where actions.id = p.id
        returning actions.id, actions.state, (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(work.id, due, spacing(work.rate), *conditions.values),
    )
    _tell_actions(tx, taken)
    ids = [row["id"] for row in taken]
    tx.change(
        f"""
        update actions set due_at = null
        where id in ({marks(ids)}) and (held = 1 or (after <> '[]'
          and exists ({forerunners(tx)} and f.state in ('owed', 'running'))))
        """,
        *ids,
    )
    return len(ids)


def _tell_actions(tx: Transaction, rows: Sequence[Row]) -> None:
    for row in rows:
        tx.changed("action", row["id"], row["state"], task=row["task_id"])


def _turned(tx: Transaction, replay_id: int, change: str, *values: object) -> Replay | None:
    """The replay after a change, told to those who listen; None when there is none."""
    row = tx.one(f"update replays set {change} where id = ? returning *", *values, replay_id)
    return None if row is None else _told(tx, _replay_of(row))


def _end_turn(tx: Transaction, work: Search, *, more: bool) -> None:
    """When nothing more is to be done in a turn it is over, unless it has become another one."""
    if not more:
        _turned(tx, work.id, "turn = case when turn = ? then null else turn end", work.turn)


def _told(tx: Transaction, found: Replay) -> Replay:
    """The replay, after it was told how it stands."""
    tx.changed("replay", found.id, found.state)
    return found


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


def _replay_of(row: Row) -> Replay:
    """`open`, `parked` and `dead` count the actions of the replay; every change of an action keeps them."""
    cancelled = row["parked"] + row["dropped"]
    searching = row["upto"] is not None
    at_work = row["open"] or row["turn"] is not None or (searching and row["cancelled_at"] is None)
    return record(
        Replay,
        row,
        searching=searching,
        done=row["matched"] - row["open"] - cancelled,
        cancelled=cancelled,
        state="running" if at_work else "cancelled" if cancelled or searching else "done",
        finished_at=None if at_work else row["settled_at"] or row["created_at"],
    )
