"""What an event owes: actions written once, released when those they come after have ended."""

from collections.abc import Sequence

from receiver.model.entries import OwedAction
from receiver.model.records import ActionState
from receiver.store.ledger.access import encode
from receiver.store.ledger.transaction import Transaction


def forerunners(tx: Transaction) -> str:
    """A query for what an action of the table `actions` comes after; to be narrowed by the state.

    A forerunner is the newest of its name that is no newer than the action itself: a new generation waits for what an
    earlier one still owes.
    """
    return f"""
    select 1 from actions f
    where f.event = actions.event and f.name in ({tx.each_text("actions.after")}) and f.generation = (
      select max(g.generation) from actions g
      where g.event = f.event and g.name = f.name and g.generation <= actions.generation)
    """


def owe(
    tx: Transaction,
    event: int,
    task: int,
    owed: Sequence[OwedAction],
    now: float,
    *,
    generation: int = 1,
    replay: int | None = None,
    due_at: float | None = None,
) -> int:
    """Writes the actions an event owes, due now or at `due_at`; one that is there already stays as it is.

    Returns how many are new.
    """
    written = 0
    for action in owed:
        row = tx.one(
            """
            insert into actions (task, event, name, generation, state, held, after, created_at, replay)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (event, name, generation) do nothing
            returning id, (select t.id from tasks t where t.key = actions.task) as task_id
            """,
            *(task, event, action.name, generation, ActionState.OWED, int(action.held), encode(action.after)),
            *(now, replay),
        )
        if row is not None:
            written += 1
            tx.changed("action", row["id"], ActionState.OWED, task=row["task_id"])
    release_waiting(tx, event, now if due_at is None else due_at)
    return written


def owe_anew(tx: Transaction, event: int, task: int, owed: Sequence[OwedAction], now: float) -> None:
    """What was begun for an event that turned out otherwise is owed once more, as a new generation."""
    begun = tx.all(
        "select name, max(generation) as newest from actions where event = ? and attempts > 0 group by name", event
    )
    newest = {row["name"]: row["newest"] for row in begun}
    for action in owed:
        if action.name in newest:
            owe(tx, event, task, [action], now, generation=newest[action.name] + 1)


def release_waiting(tx: Transaction, event: int, now: float) -> None:
    """Actions whose forerunners are done, and which nothing holds, become due."""
    # The coalesce keeps the planner from going through everything that is owed instead of through one event.
    tx.change(
        f"""
        update actions set due_at = ?
        where event = ? and coalesce(state, '') = 'owed' and due_at is null and held = 0
          and not exists ({forerunners(tx)} and f.state not in ('done', 'skipped'))
        """,
        *(now, event),
    )


def skip_held(tx: Transaction, event: int, reason: str, now: float) -> None:
    """Actions that waited for an event to be confirmed, which it never was, are skipped."""
    rows = tx.all(
        """
        update actions set state = 'skipped', settled_at = ?, due_at = null, reason = ?
        where event = ? and coalesce(state, '') = 'owed' and held = 1
        returning id, (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(now, reason, event),
    )
    for row in rows:
        tx.changed("action", row["id"], "skipped", task=row["task_id"])
