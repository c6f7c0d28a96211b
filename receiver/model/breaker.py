"""The circuit breaker of a definition: while its target is unwell, its owed actions wait. Pure.

Closed, it counts the actions that fail in a row; those that fail again and again count once. Open, nothing is tried
until a rest is over; then one action at a time is the trial, which closes the breaker or opens it for twice as long.
"""

from msgspec.structs import replace

from receiver.model.records import Breaker

FIRST_REST = 30.0
"""Seconds; a restart or a deployment of the other side is over by then."""
LONGEST_REST = 900.0
TRIAL_LOOK = 1.0
"""Seconds between two looks at how a trial went, for those who wait for it."""
CLOSED = Breaker()


def is_open(breaker: Breaker) -> bool:
    return breaker.open_until is not None


def state(breaker: Breaker, now: float) -> str:
    """closed, open, or half_open when the next action is a trial."""
    if breaker.open_until is None:
        return "closed"
    return "open" if now < breaker.open_until else "half_open"


def ready_at(breaker: Breaker, now: float, *, trial_runs: bool) -> float:
    """The earliest time at which an action may be tried."""
    if breaker.open_until is None:
        return now
    if trial_runs:
        return now + TRIAL_LOOK
    # No rest is longer than the longest, but for a clock that was set back.
    return max(now, breaker.open_until) if breaker.open_until <= now + LONGEST_REST else now


def begun(breaker: Breaker, action: int) -> Breaker:
    """An action is being tried; while the breaker is open it is the trial."""
    return replace(breaker, trial=action) if is_open(breaker) else breaker


def given_back(breaker: Breaker, action: int) -> Breaker:
    """An attempt ended without showing how the target is."""
    return replace(breaker, trial=None) if breaker.trial == action else breaker


def failed(breaker: Breaker, action: int, now: float, *, limit: int, retry_after: float = 0.0) -> Breaker:
    """The target was unwell. `limit` actions in a row open the breaker, for `retry_after` seconds at the least."""
    if is_open(breaker):
        # What was begun before it opened says nothing new.
        return _opened(breaker, now, retry_after) if breaker.trial == action else breaker
    if action in breaker.failed:
        return breaker
    counted = replace(breaker, failed=(*breaker.failed, action))
    return _opened(counted, now, retry_after) if len(counted.failed) >= limit else counted


def _opened(breaker: Breaker, now: float, retry_after: float) -> Breaker:
    rest = min(LONGEST_REST, max(retry_after, FIRST_REST * 2 ** min(breaker.openings, 10)))
    return replace(breaker, openings=breaker.openings + 1, open_until=now + rest, trial=None)
