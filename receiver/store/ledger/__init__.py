"""The verbs of the ledger with their SQL, written once for every engine."""

from receiver.store.ledger import (
    actions,
    alerts,
    checks,
    definitions,
    deliveries,
    events,
    misses,
    reconciling,
    replays,
    rereading,
    submissions,
    tasks,
    uploads,
)

__all__ = [
    "actions",
    "alerts",
    "checks",
    "definitions",
    "deliveries",
    "events",
    "misses",
    "reconciling",
    "replays",
    "rereading",
    "submissions",
    "tasks",
    "uploads",
]
