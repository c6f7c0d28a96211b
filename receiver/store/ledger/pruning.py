"""Pruning: what ended long ago, and is of use to no work, is found in small walks and removed in small writes.

The rows of a kind are walked in the order in which they were made, so the walk ends at the first that is too young.
What the walk finds is judged once more when it is removed: somebody may have taken it up meanwhile.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from receiver.model.entries import Old, OldRows, Pruned
from receiver.model.records import AlertKind
from receiver.model.retention import PRUNE_WALK
from receiver.model.rules import ENDED
from receiver.store.ledger.access import marks, reads, record, writes
from receiver.store.ledger.tallies import tally_before_removal
from receiver.store.ledger.tasks import ALL_OF_IT
from receiver.store.ledger.transaction import Transaction

Place = tuple[float, int]
"""Where a walk is: the time at which a row was made, and its key."""
START: Place = (0.0, 0)


def _texts(words: Sequence[str]) -> str:
    return ", ".join(f"'{word}'" for word in sorted(words))


IN_USE = """
(a.state in ('owed', 'running') or a.settled_at >= ? or (a.state = 'dead' and exists (
  select 1 from alerts l where l.kind = 'action_dead' and l.subject = a.name and l.closed_at is null)))
"""
"""An action that is not over: it is on its way, ended a short while ago, or is dead and alerted yet."""
# The coalesce keeps the planner from going through all tasks of these states instead of through a few keys.
OVER = f"""
coalesce(t.state, '') in ({_texts(tuple(ENDED))})
and t.settled = 1 and t.check_at is null and t.aside = 0 and t.refresh <> 1
and not exists (select 1 from actions a where a.task = t.key and {IN_USE})
and not exists (
  select 1 from alerts l where l.kind in ({_texts((*ALL_OF_IT, AlertKind.EVENT_CONTRADICTED))})
  and l.subject = t.id and l.closed_at is null)
"""
"""A task of which nothing is left to be done or to be looked at; the question mark is the time before which."""
CHILDREN = ("deliveries", "checks", "events", "actions")


class Prunable(NamedTuple):
    """A kind of row, as `x`, and its task as `t` where `over` speaks of it.

    `made` is when a row came; with `indexed` only such rows are walked, in an index of that time, else in the order of
    the key. It may go when it is `over`, in which each question mark is the time before which it must be. `rest` is
    what else must hold when it is removed.
    """

    table: str
    key: str
    made: str
    over: str
    size: str
    remove: Callable[[Transaction, Sequence[int]], None]
    task: str | None = "x.task"
    indexed: str = ""
    rows: str = "1"
    rest: str = "1 = 1"

    def source(self) -> str:
        return f"{self.table} x" + (f" join tasks t on t.key = {self.task}" if self.task else "")


def _delete(table: str, key: str) -> Callable[[Transaction, Sequence[int]], None]:
    def remove(tx: Transaction, keys: Sequence[int]) -> None:
        tx.change(f"delete from {table} where {key} in ({marks(keys)})", *keys)

    return remove


def _empty_bodies(tx: Transaction, keys: Sequence[int]) -> None:
    tx.change(f"update deliveries set body = ? where id in ({marks(keys)})", b"", *keys)


def _delete_deliveries(tx: Transaction, keys: Sequence[int]) -> None:
    for row in tx.all(f"delete from deliveries where id in ({marks(keys)}) returning task", *keys):
        tx.change("update tasks set bodies = bodies - 1 where key = ?", row["task"])


def _delete_actions(tx: Transaction, column: str, keys: Sequence[int]) -> None:
    actions = [row["id"] for row in tx.all(f"select id from actions where {column} in ({marks(keys)})", *keys)]
    tx.change(f"delete from attempts where action in ({marks(actions)})", *actions)
    tx.change(f"delete from actions where id in ({marks(actions)})", *actions)


def _delete_events(tx: Transaction, keys: Sequence[int]) -> None:
    """An event without its actions would owe them anew to a replay, so they go together."""
    tally_before_removal(tx, keys)
    _delete_actions(tx, "event", keys)
    tx.change(f"delete from events where key in ({marks(keys)})", *keys)


def _delete_alerts(tx: Transaction, keys: Sequence[int]) -> None:
    _delete_actions(tx, "alert", keys)
    tx.change(f"delete from alerts where id in ({marks(keys)})", *keys)


def _delete_tasks(tx: Transaction, keys: Sequence[int]) -> None:
    """And what is looked up by targets and labels, where no other task has them."""
    which = f"({marks(keys)})"
    targets = {row["target"] for row in tx.all(f"select target from tasks where key in {which}", *keys)}
    labels = {
        (row["name"], row["value"])
        for row in tx.all(f"delete from task_labels where task in {which} returning name, value", *keys)
    }
    tx.change(f"delete from files where task in {which}", *keys)
    tx.change(f"delete from tasks where key in {which}", *keys)
    unused = "not exists (select 1 from tasks t where t.target = targets.target)"
    tx.change(f"delete from targets where target in ({marks(targets)}) and {unused}", *targets)
    unused = "not exists (select 1 from task_labels where name = ? and value = ?)"
    for label in labels:
        tx.change(f"delete from labels where name = ? and value = ? and {unused}", *label, *label)


def _is_young(child: str, time: str) -> str:
    return f"exists (select 1 from {child} c where c.task = t.key and c.{time} >= ?)"


KINDS: dict[str, Prunable] = {
    "bodies": Prunable(
        *("deliveries", "id", "received_at", f"x.last_at < ? and length(x.body) > 0 and {OVER}", "length(x.body)"),
        _empty_bodies,
        indexed="length(x.body) > 0",
    ),
    "checks": Prunable(
        *("checks", "id", "at", f"x.at < ? and {OVER}", "length(x.summary) + coalesce(length(x.answer), 0)"),
        _delete("checks", "id"),
    ),
    "attempts": Prunable(
        *("actions", "id", "created_at"),
        f"x.settled_at < ? and exists (select 1 from attempts where action = x.id) and {OVER}",
        "(select sum(length(detail)) from attempts where action = x.id)",
        _delete("attempts", "action"),
        rows="(select count(*) from attempts where action = x.id)",
    ),
    "deliveries": Prunable(
        *("deliveries", "id", "received_at", f"x.last_at < ? and {OVER}", "length(x.body)"), _delete_deliveries
    ),
    "events": Prunable(
        *("events", "key", "at", f"x.at < ? and {OVER}", "length(x.results) + length(x.usage) + length(x.extra)"),
        _delete_events,
    ),
    "tasks": Prunable(
        *("tasks", "key", "created_at"),
        f"""
        t.ended_at < ? and {OVER} and not {_is_young("deliveries", "last_at")} and not {_is_young("checks", "at")}
        and not {_is_young("events", "at")}
        """,
        "length(t.input) + length(t.labels)",
        _delete_tasks,
        task="x.key",
        rest=" and ".join(f"not exists (select 1 from {child} c where c.task = t.key)" for child in CHILDREN),
    ),
    "replays": Prunable(
        *("replays", "id", "created_at"),
        """
        x.open = 0 and x.turn is null and (x.upto is null or x.cancelled_at is not null)
        and coalesce(x.settled_at, x.created_at) < ?
        and not exists (select 1 from actions a where a.replay = x.id)
        """,
        "length(x.filter)",
        _delete("replays", "id"),
        task=None,
    ),
    "closed_alerts": Prunable(
        *("alerts", "id", "opened_at"),
        f"x.closed_at < ? and not exists (select 1 from actions a where a.alert = x.id and {IN_USE})",
        "length(x.message)",
        _delete_alerts,
        task=None,
    ),
    "audit": Prunable(
        *("audit", "id", "at", "x.at < ?", "length(x.filter)"), _delete("audit", "id"), task=None, indexed="1 = 1"
    ),
}
"""Every kind of row that is ever pruned."""


@reads
def old_rows(tx: Transaction, kind: str, before: float, after: Place = START) -> OldRows:
    """What of a kind was over before a time, among the next rows beyond a place."""
    each = KINDS[kind]
    walked = _walk(tx, each, after)
    found = _judge(tx, each, [key for _, key in walked], before)
    is_last = len(walked) < PRUNE_WALK or walked[-1][0] >= before
    return OldRows(found, None if is_last else walked[-1])


@writes
def remove_old(tx: Transaction, kind: str, before: float, keys: Sequence[int], now: float) -> Old:
    """Removes what was found, and may go yet, and counts it. How many rows, and about how many bytes, that was."""
    each = KINDS[kind]
    going = _judge(tx, each, keys, before, each.rest)
    if not going:
        return Old(0, 0, 0)
    gone = Old(0, sum(old.rows for old in going), sum(old.bytes for old in going))
    each.remove(tx, [old.key for old in going])
    tx.change(
        """
        insert into pruned (kind, removed, bytes, since, at) values (?, ?, ?, ?, ?)
        on conflict (kind) do update set removed = pruned.removed + excluded.removed,
          bytes = pruned.bytes + excluded.bytes, at = excluded.at
        """,
        *(kind, gone.rows, gone.bytes, now, now),
    )
    return gone


@reads
def pruned(tx: Transaction) -> dict[str, Pruned]:
    """What was ever removed, by kind."""
    return {row["kind"]: record(Pruned, row) for row in tx.all("select * from pruned")}


def _walk(tx: Transaction, each: Prunable, after: Place) -> list[Place]:
    values: Sequence[object]
    columns, key = f"x.{each.made} as made, x.{each.key} as key", f"x.{each.key}"
    if each.indexed:
        where, order, values = f"{each.indexed} and (x.{each.made}, {key}) > (?, ?)", f"x.{each.made}, {key}", after
    else:
        where, order, values = f"{key} > ?", key, after[1:]
    sql = f"select {columns} from {each.table} x where {where} order by {order} limit ?"
    return [(row["made"], row["key"]) for row in tx.all(sql, *values, PRUNE_WALK)]


def _judge(tx: Transaction, each: Prunable, keys: Sequence[int], before: float, rest: str = "1 = 1") -> list[Old]:
    """Those of the rows that may go."""
    sql = f"""
    select x.{each.key} as key, {each.rows} as rows_of_it, {each.size} as size from {each.source()}
    where x.{each.key} in ({marks(keys)}) and {each.over} and {rest} order by x.{each.key}
    """
    times = [before] * each.over.count("?")
    return [Old(row["key"], row["rows_of_it"], row["size"]) for row in tx.all(sql, *keys, *times)]
