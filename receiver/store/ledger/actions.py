"""Actions: effects owed, claimed with a lease, settled with a fence, every attempt kept."""

import sys
from collections.abc import Collection, Mapping, Sequence

from receiver.model import rules
from receiver.model.breaker import TRIAL_LOOK
from receiver.model.entries import Abandoned, Settlement
from receiver.model.errors import Refused
from receiver.model.records import Action, ActionState, AlertKind, Attempt, Claimed, Filter, JsonObject, Line, Page
from receiver.store.ledger import definitions
from receiver.store.ledger.access import Conditions, count_up, encode, marks, reads, record, writes
from receiver.store.ledger.alerts import close_alert, open_alert
from receiver.store.ledger.events import with_files
from receiver.store.ledger.owing import release_waiting
from receiver.store.ledger.pages import Range, Table, as_shown, page_of
from receiver.store.ledger.search import is_rare, labelled, rarest_first
from receiver.store.ledger.tasks import task_of
from receiver.store.ledger.transaction import Row, Transaction

TABLE = Table("actions", "created_at", "id")
SELECT = """
select a.*, t.id as task_id, e.id as event_id,
  case when a.state <> 'owed' then null when d.configured = 0 then 'definition' when d.paused = 1 then 'resume'
    when a.held = 1 then 'confirmation' when a.due_at is null then 'others'
    when d.open_until is not null then 'trial' end as waits_for
from actions a join tasks t on t.key = a.task join events e on e.key = a.event
  left join definitions d on d.name = a.name
"""
FEW = 100
"""Due actions that are sorted in no time."""
CLAIMABLE = """
name = ? and state = 'owed' and due_at is not null and (crashes = 0 or not exists (
  select 1 from actions s where s.state = 'running' and s.crashes > 0))
"""
"""What a crash has hit is tried alone, so that the one that is to blame takes nobody with it again."""
FOLLOWING = f"""
event, name,
exists (select 1 from actions w where w.event = actions.event and coalesce(w.state, '') = 'owed' and w.due_at is null)
  as is_waited_for,
exists (select 1 from alerts l where l.kind = '{AlertKind.ACTION_DEAD}' and l.subject = actions.name
  and l.closed_at is null) as is_alerted
"""
"""What must be known of an action that is over. The coalesce keeps the planner from going through all that is owed."""


@writes
def claim_action(tx: Transaction, name: str, now: float, lease: float, *, node: str = rules.NODE) -> Claimed | None:
    """The due action of a definition that waits longest, now running on a node under a lease of `lease` seconds.

    None when nothing is due, the definition is paused, or all its places are taken. The fence that comes with it is
    good for one settlement.
    """
    tx.lock(f"definition {name}")
    return _claim(tx, name, now, lease, node)


@writes
def settle_and_claim(
    tx: Transaction, claimed: Claimed, settlement: Settlement, now: float, lease: float, *, node: str = rules.NODE
) -> tuple[bool, Claimed | None]:
    """Both in one: they change the same pages, and a page is what a commit costs."""
    tx.lock(f"definition {claimed.action.name}")
    return _settle(tx, claimed, settlement, now), _claim(tx, claimed.action.name, now, lease, node)


def _claim(tx: Transaction, name: str, now: float, lease: float, node: str) -> Claimed | None:
    definition = definitions.find(tx, name)
    ready = definitions.ready_at(definition, now)
    if ready is None or ready > now:
        return None
    row = tx.one(
        f"""
        update actions set state = 'running', holder = ?, lease_until = ?, fence = fence + 1, attempts = attempts + 1,
          parked = 0, process = null
        where id = ({_first_due(tx, definition, name, now)})
        returning *, (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(node, now + lease, name, now),
    )
    if row is None:
        return None
    tx.change("insert into attempts (action, number, started_at) values (?, ?, ?)", row["id"], row["fence"], now)
    if definition is not None:
        definitions.note_begun(tx, definition, row["id"], now)
    tx.changed("action", row["id"], ActionState.RUNNING, task=row["task_id"])
    try:
        task = task_of(tx.one("select * from tasks where key = ?", row["task"]))
        event = with_files(tx, tx.one("select * from events where key = ?", row["event"]), task.id)
        action = record(Action, row, task=task.id, event=event.id, waits_for=None)
        return Claimed(action=action, fence=row["fence"], event=event, task=task)
    except Refused as problem:
        # It holds nothing up: what comes behind it is claimed in its place.
        _interrupt(tx, row["id"], row["fence"], now)
        _bury(tx, row["id"], row["task_id"], name, f"its task or its event is unreadable: {problem}", now)
        return _claim(tx, name, now, lease, node)


@writes
def renew_lease(tx: Transaction, claimed: Claimed, until: float) -> bool:
    """Prolongs a lease. False when the action is no longer in this worker's hands."""
    sql = "update actions set lease_until = ? where id = ? and fence = ? and state = 'running'"
    return bool(tx.change(sql, until, claimed.action.id, claimed.fence))


@writes
def settle_action(tx: Transaction, claimed: Claimed, settlement: Settlement, now: float) -> bool:
    """Ends an attempt. False when the lease went to somebody else meanwhile: then nothing changes."""
    return _settle(tx, claimed, settlement, now)


def _settle(tx: Transaction, claimed: Claimed, settlement: Settlement, now: float) -> bool:
    action, outcome = claimed.action, settlement.outcome
    held = tx.change(
        """
        update attempts set ended_at = ?, outcome = ?, detail = ? where action = ? and number = ?
          and number = (select fence from actions where id = action and state = 'running')
        """,
        *(now, outcome, encode(settlement.detail), action.id, claimed.fence),
    )
    if not held:
        return False
    _count_try(tx, action.name, outcome, settlement.detail)
    definitions.note_ended(tx, action.name, action.id, settlement, now)
    for file in settlement.files:
        tx.change(
            """
            insert into files (task, result, path, sha256, size) values (?, ?, ?, ?, ?)
            on conflict (task, result, path) do update set sha256 = excluded.sha256, size = excluded.size
            """,
            *(claimed.task.key, file.result, file.path, file.sha256, file.size),
        )
    if outcome == "done":
        _finish(tx, action, now)
    elif outcome == "dead":
        _bury(tx, action.id, action.task, action.name, settlement.reason or "", now)
    else:
        _owe_again(tx, action, settlement)
    return True


@writes
def free_expired_leases(
    tx: Transaction,
    now: float,
    max_attempts: Mapping[str, int],
    in_hand: Collection[int] = (),
    abandoned: Abandoned | None = None,
) -> int:
    """Actions whose worker died are owed again, or dead when that was their last attempt. Returns how many.

    Those `in_hand` (ids) have a worker that lives: the clock stepped, or nothing could be written for a while. What is
    `abandoned` need not wait for its leases: a node that starts anew has no worker yet, and has ended the programs that
    are known to it.
    """
    held, names = list(in_hand), list(abandoned.names if abandoned else ())
    rows = tx.all(
        f"""
        update actions set crashes = crashes + 1
        where state = 'running'
          and (lease_until <= ? or (holder = ? and (process is not null or name in ({marks(names)}))))
          and id not in ({marks(held) if held else "-1"})
        returning id, name, fence, attempts, crashes,
          (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(now, abandoned.node if abandoned else None, *names, *held),
    )
    for row in rows:
        _interrupt(tx, row["id"], row["fence"], now)
        _count_try(tx, row["name"], "interrupted")
        if row["crashes"] >= rules.CRASHES:
            died = f"its worker died {row['crashes']} times while it ran; mend what kills it, then retry it"
            _bury(tx, row["id"], row["task_id"], row["name"], died, now)
        elif row["attempts"] >= max_attempts.get(row["name"], sys.maxsize):
            _bury(tx, row["id"], row["task_id"], row["name"], "its worker died during the last try", now)
        else:
            due_at = now + rules.crash_delay(row["crashes"])
            tx.change(
                "update actions set state = 'owed', due_at = ?, holder = null, lease_until = null where id = ?",
                *(due_at, row["id"]),
            )
            again = _told(row["name"], row["task_id"], "its worker died while it ran")
            tx.changed("action", row["id"], ActionState.OWED, again, task=row["task_id"])
    return len(rows)


def _count_try(tx: Transaction, name: str, outcome: str, detail: JsonObject = {}) -> None:  # noqa: B006 (only read)
    count_up(tx, f"action_tries.{outcome}.{detail.get('category', '')}.{name}")


def _interrupt(tx: Transaction, action: int, number: int, now: float) -> None:
    sql = "update attempts set ended_at = ?, outcome = 'interrupted' where action = ? and number = ?"
    tx.change(sql, now, action, number)


@writes
def note_process(tx: Transaction, claimed: Claimed, process: str) -> None:
    """Writes down which program an action runs, for the next server, should this one die."""
    sql = "update actions set process = ? where id = ? and fence = ? and state = 'running'"
    tx.change(sql, process, claimed.action.id, claimed.fence)


@reads
def left_programs(tx: Transaction, node: str) -> list[str]:
    """The programs that a node's actions ran when it died."""
    sql = "select process from actions where state = 'running' and holder = ? and process is not null"
    return [row["process"] for row in tx.all(sql, node)]


@reads
def next_action_at(tx: Transaction, name: str, now: float) -> float | None:
    """When the next action of a definition may be tried, None when none is owed or the definition is paused."""
    ready = definitions.ready_at(definitions.find(tx, name), now)
    if ready is None:
        return None
    due: float | None = tx.value(f"select min(due_at) as value from actions where {CLAIMABLE}", name)
    if due is not None:
        return max(ready, due)
    suspect = "select 1 from actions where name = ? and state = 'owed' and due_at is not null limit 1"
    return max(ready, now + TRIAL_LOOK) if tx.is_there(suspect, name) else None


@reads
def action(tx: Transaction, action_id: int) -> Action | None:
    """An action, as far as it can be read."""
    row = tx.one(f"{SELECT} where a.id = ?", action_id)
    return None if row is None else as_shown(_action_of, row)


@reads
def actions(tx: Transaction, wanted: Filter) -> Page[Action]:
    """A page of actions, newest first; name is the definition's, the labels are the task's."""
    labels = rarest_first(tx, wanted.label)
    about = Conditions()
    if wanted.task is not None:
        about.add("task = (select key from tasks where id = ?)", wanted.task)
    elif labels and is_rare(tx, labels[0]):
        about.add("task in (select task from task_labels where name = ? and value = ?)", *labels.pop(0))
    held = labelled(labels, task="(select a.task from actions a where a.id = w.place)")
    if about.texts:
        # The coalesce keeps the planner from going through all actions of a name instead of those of the tasks.
        about.among("coalesce(state, '')", wanted.state)
        about.among("coalesce(name, '')", () if wanted.name is None else (wanted.name,))
        ranges = [Range(TABLE, " and ".join(about.texts), tuple(about.values), *held)]
    else:
        ranges = [
            Range(TABLE, "name = ? and state = ?", (row["name"], row["state"]), *held)
            for row in tx.all("select name, state from action_counts where n > 0")
            if wanted.name in (None, row["name"]) and (not wanted.state or row["state"] in wanted.state)
        ]
    return page_of(tx, ranges, wanted, SELECT + " where a.id in ({keys})", _action_of)


@reads
def attempts(tx: Transaction, action_id: int) -> list[Attempt]:
    """Every attempt of an action, oldest first."""
    rows = tx.all("select * from attempts where action = ? order by number", action_id)
    return [as_shown(lambda each: record(Attempt, each), row) for row in rows]


@writes
def skip_action(tx: Transaction, action_id: int, reason: str, now: float) -> bool:
    """Cancels an action that is owed or dead. False when it is neither."""
    allowed = rules.action_sources(ActionState.SKIPPED)
    tx.change(
        f"""
        update replays set dropped = dropped + 1 where id = (
          select replay from actions where id = ? and parked = 1 and state in ({marks(allowed)}))
        """,
        *(action_id, *allowed),
    )
    row = tx.one(
        f"""
        update actions set state = 'skipped', settled_at = ?, due_at = null, reason = ?, parked = 0
        where id = ? and state in ({marks(allowed)})
        returning {FOLLOWING}, (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(now, reason, action_id, *allowed),
    )
    if row is not None:
        told = _told(row["name"], row["task_id"], reason)
        tx.changed("action", action_id, ActionState.SKIPPED, told, task=row["task_id"])
        _follow(tx, row, now)
    return row is not None


@writes
def ask_for_new_links(tx: Transaction, claimed: Claimed, now: float) -> None:
    """The result links are refused: the provider is to be asked for new ones."""
    tx.change("update tasks set refresh = 1, check_at = ? where key = ?", now, claimed.task.key)


@reads
def unsaved_since(tx: Transaction, names: Sequence[str], before: float) -> list[tuple[str, int]]:
    """Definitions among `names` with unfinished actions for events before a time, each with how many.

    Those whose links were refused in many tries are among them, whatever their age.
    """
    rows = tx.all(
        f"""
        select a.name, count(*) as n from actions a join events e on e.key = a.event join tasks t on t.key = a.task
        where a.state in ('owed', 'running') and a.name in ({marks(names)})
          and (e.at < ? or (t.refresh > 0 and a.attempts >= ?)) group by a.name
        """,
        *(*names, before, rules.EXPIRED_ALERT),
    )
    return [(row["name"], row["n"]) for row in rows]


def _action_of(row: Row) -> Action:
    return record(Action, row, task=row["task_id"], event=row["event_id"])


def _first_due(tx: Transaction, definition: Row | None, name: str, now: float) -> str:
    """A query for the id of the action to be claimed, with the name and the time to be bound."""
    due, order = "due_at <= ?", "due_at, id"
    if definition is not None and definition["open_until"] is not None:
        # The coalesce keeps the planner from sorting all that are due.
        due, order = "coalesce(due_at, 0) <= ?", "attempts, due_at, id"
    elif definitions.is_expiring(definition):
        # A few are sorted; of many the first is looked up, and the coalesce keeps the planner from sorting them.
        due, order = "coalesce(due_at, 0) <= ?" if _are_many_due(tx, name, now) else due, "event, id"
    return f"select id from actions where {CLAIMABLE} and {due} order by {order} limit 1"


def _are_many_due(tx: Transaction, name: str, now: float) -> bool:
    sql = "select 1 from actions where name = ? and state = 'owed' and due_at <= ? limit 1 offset ?"
    return tx.is_there(sql, name, now, FEW)


def _finish(tx: Transaction, action: Action, now: float) -> None:
    row = tx.one(
        f"""
        update actions set state = 'done', settled_at = ?, due_at = null, holder = null, lease_until = null,
          reason = null
        where id = ? returning {FOLLOWING}
        """,
        *(now, action.id),
    )
    told = {**_told(action.name, action.task), "tries": action.attempts}
    tx.changed("action", action.id, ActionState.DONE, told, task=action.task)
    _follow(tx, row, now)


def _follow(tx: Transaction, row: Row, now: float) -> None:
    """An action that is over lets go of those that come after it, and its definition may have none left to mourn."""
    if row["is_waited_for"]:
        release_waiting(tx, row["event"], now)
    if row["is_alerted"] and not definitions.count(tx, row["name"], ActionState.DEAD):
        close_alert(tx, AlertKind.ACTION_DEAD, row["name"], now)


def _owe_again(tx: Transaction, action: Action, settlement: Settlement) -> None:
    # An attempt that was given back, unfinished, does not count against its action. One that ended has killed nobody.
    back = 1 if settlement.outcome == "returned" else 0
    tx.change(
        """
        update actions set state = 'owed', due_at = ?, holder = null, lease_until = null, reason = ?,
          attempts = attempts - ?, crashes = crashes * ? where id = ?
        """,
        *(settlement.due_at, settlement.reason, back, back, action.id),
    )
    told = {**_told(action.name, action.task, settlement.reason), "tries": action.attempts - back}
    tx.changed("action", action.id, ActionState.OWED, told, task=action.task)


def _told(name: str, task: str, reason: str | None = None) -> Line:
    """What the log says of an action that has come to something."""
    return {"name": name, "task": task, "reason": reason}


def _bury(tx: Transaction, action: int, task: str, name: str, reason: str, now: float) -> None:
    tx.change(
        """
        update actions set state = 'dead', settled_at = ?, due_at = null, holder = null, lease_until = null, reason = ?
        where id = ?
        """,
        *(now, reason, action),
    )
    tx.changed("action", action, ActionState.DEAD, _told(name, task, reason), task=task)
    count_up(tx, "actions_dead")
    open_alert(tx, AlertKind.ACTION_DEAD, name, f"action {action} of {name} is dead: {reason}", now)
