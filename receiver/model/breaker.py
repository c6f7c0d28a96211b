"""The circuit breaker of a definition: while its target is unwell, its owed actions wait. Pure.

Closed, it counts the actions that fail in a row; those that fail again and again count once. A failure says more about
its event than about the target, so it opens only when enough different ones failed and none has ended well for a while.
Open, one action at a time is the trial, the one that was tried least: again and again, some seconds apart, until one
does not fail. So bad events cannot hold it open, nor up what waits behind them.
"""

from msgspec.structs import replace

from receiver.model.records import Breaker

FIRST_REST = 5.0
LONGEST_REST = 30.0
"""Seconds between two trials. A target that answers can bear one in five seconds; while it is silent the rests double,
and one that is down can bear one in thirty."""
LONGEST_ASKED = 900.0
"""Seconds for which a target may ask to be left alone: it may have meant one event only."""
CALM = 30.0
"""For so many seconds after a target was well no failure accuses it; a restart of the other side is over by then."""
WELL_NOTED = 5.0
"""Seconds that may pass before it is written down again that the target is well."""
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
    return max(now, breaker.open_until) if breaker.open_until <= now + LONGEST_ASKED else now


def begun(breaker: Breaker, action: int) -> Breaker:
    """An action is being tried; while the breaker is open it is the trial."""
    return replace(breaker, trial=action) if is_open(breaker) else breaker


def given_back(breaker: Breaker, action: int) -> Breaker:
    """An attempt ended without showing how the target is."""
    return replace(breaker, trial=None) if breaker.trial == action else breaker


def well(breaker: Breaker, now: float) -> Breaker:
    """An attempt ended, and the target was well."""
    noted = breaker.well_at
    is_noted = noted is not None and 0 <= now - noted < WELL_NOTED
    return Breaker(well_at=noted if is_noted else now)


def failed(
    breaker: Breaker, action: int, now: float, *, limit: int, retry_after: float = 0.0, silent: bool = False
) -> Breaker:
    """The target was unwell, perhaps `silent`. It opens for `retry_after` seconds at the least."""
    rest = min(LONGEST_REST, FIRST_REST * 2 ** min(breaker.openings, 10)) if silent else FIRST_REST
    until = now + max(rest, min(retry_after, LONGEST_ASKED))
    opened = replace(breaker, openings=breaker.openings + 1, open_until=until, trial=None)
    if is_open(breaker):
        # What was begun before it opened says nothing new.
        return opened if breaker.trial == action else breaker
    others = tuple(each for each in breaker.failed if each != action)
    counted = (*others, action)[-limit:]
    was_well = breaker.well_at is not None and 0 <= now - breaker.well_at < CALM
    return replace(breaker if was_well or len(counted) < limit else opened, failed=counted)
