"""For how long rows are kept, and how gently the old ones are removed. Pure."""

from msgspec import Struct


class Keep(Struct, frozen=True, kw_only=True):
    """For how many days each kind of row is kept after its end; 0 is for ever. In the order in which they go."""

    bodies: float
    checks: float
    attempts: float
    deliveries: float
    events: float
    tasks: float
    replays: float
    closed_alerts: float
    audit: float


def days_kept(keep: Keep) -> dict[str, float]:
    """The kinds of row that are ever removed, each with its days. What belongs to something goes no later than that."""
    sooner = {
        "bodies": _soonest(keep.bodies, keep.deliveries, keep.tasks),
        "checks": _soonest(keep.checks, keep.tasks),
        "deliveries": _soonest(keep.deliveries, keep.tasks),
        "events": _soonest(keep.events, keep.tasks),
    }
    days = {kind: sooner.get(kind, getattr(keep, kind)) for kind in keep.__struct_fields__}
    return {kind: each for kind, each in days.items() if each}


def _soonest(*days: float) -> float:
    return min((each for each in days if each), default=0.0)


KEPT_LEAST = 1.0
"""Days for which everything is kept at the least: result links live so long, and callbacks are repeated before."""
PRUNE_EVERY = 3600.0
"""Seconds from one pruning to the next: what is kept for days need not go to the minute."""
PRUNE_FIRST = 60.0
"""Seconds after the start until the first one: a server that starts has callbacks to catch up with."""
PRUNE_WALK = 500
"""Rows that are looked at in one read."""
PRUNE_ROWS = 50
"""Rows that are removed in one write, some of them with a dozen others: a few milliseconds."""
PRUNE_BYTES = 2**20
"""Bytes of rows that are removed in one write, if it is more than one row: their pages have to be read."""
PRUNE_REST = 9.0
"""Rest after each step, in times of what the step took: pruning takes a tenth of the writer, and less of a busy one,
for which it waits. So most callbacks never meet it."""
PRUNE_LONGEST_REST = 1.0
