"""Figures: how the ledger stands, for whoever watches from outside. No table is counted for them.

They come from counts that are kept as rows come and go, from the first entries of indexes, and from the tallies.
"""

from receiver.model.entries import Figures
from receiver.model.records import ActionState, TaskState
from receiver.model.tallies import Span, Tally
from receiver.store.ledger.access import reads, record
from receiver.store.ledger.transaction import Transaction

OPEN = (TaskState.QUEUED, TaskState.SUBMITTING, TaskState.SUBMITTED, TaskState.IN_DOUBT, TaskState.LOST)
"""States in which a task may be for long, and those that never end."""
UNENDED = (ActionState.OWED, ActionState.RUNNING, ActionState.DEAD)


@reads
def figures(tx: Transaction) -> Figures:
    """How everything stands now."""
    counts = {row["state"]: row["n"] for row in tx.all("select state, n from task_counts")}
    oldest = {
        state: tx.value("select created_at as value from tasks where state = ? order by key limit 1", state)
        for state in OPEN
    }
    definitions = tx.all("select name, configured, paused, open_until from definitions order by name")
    due = "select min(due_at) as value from actions where name = ? and state = 'owed' and due_at is not null"
    configured = [row for row in definitions if row["configured"]]
    return Figures(
        counters={row["name"]: row["value"] for row in tx.all("select name, value from counters")},
        tasks={state: counts.get(state, 0) for state in OPEN},
        oldest_tasks={state: at for state, at in oldest.items() if at is not None},
        actions={
            (row["name"], row["state"]): row["n"]
            for row in tx.all("select name, state, n from action_counts order by name, state")
            if row["state"] in UNENDED
        },
        oldest_due={row["name"]: at for row in configured if (at := tx.value(due, row["name"])) is not None},
        paused={row["name"]: bool(row["paused"]) for row in configured},
        broken={row["name"]: row["open_until"] is not None for row in configured},
        alerts={
            row["kind"]: row["n"]
            for row in tx.all("select kind, count(*) as n from alerts where closed_at is null group by kind")
        },
        tallies=[record(Tally, row) for row in tx.all("select * from tallies where span = ? order by name", Span.EVER)],
    )
