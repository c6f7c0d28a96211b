"""What the log says of the ledger: a line for everything that came to something, whoever brought it about."""

import logging
from collections.abc import Callable, Sequence

import structlog

from receiver.model.entries import Change

LEVELS = {
    **dict.fromkeys((("task", state) for state in ("in_doubt", "rejected", "lost")), logging.WARNING),
    ("action", "dead"): logging.WARNING,
    ("alert", "open"): logging.WARNING,
}
"""What somebody should look at. Everything else is as it should be, or as RunningHub will have it."""


def teller() -> Callable[[Sequence[Change]], None]:
    """What logs the outcomes among the changes of a commit: `task`, `action` or `alert`, its id and its state."""
    log = structlog.get_logger().bind()  # bound once: to bind it costs as much as a line

    def tell(changes: Sequence[Change]) -> None:
        for change in changes:
            if change.told is not None:
                level = LEVELS.get((change.kind, change.state), logging.INFO)
                told = {name: value for name, value in change.told.items() if value not in (None, "")}
                log.log(level, change.kind, **{"id": change.id, "state": change.state, **told})

    return tell
