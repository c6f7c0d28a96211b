"""What an HTTP answer says: whether to try again, how long to wait, how its sender is. Pure."""

from collections.abc import Mapping

from receiver.model.definitions import FailureClass
from receiver.model.retry_after import seconds_asked

AGAIN = frozenset({408, 425, 429})
THROTTLED = frozenset({429, 502, 503, 504})


def is_worth_retrying(status: int) -> bool:
    """Whether the other side may answer better later."""
    return status in AGAIN or 500 <= status <= 599


def failure_class(status: int) -> FailureClass:
    """What a status that is no success says about its sender. A redirect that is not followed is a refusal."""
    if status == 410:
        return FailureClass.GONE
    if status in THROTTLED:
        return FailureClass.THROTTLED
    return FailureClass.UNWELL if is_worth_retrying(status) else FailureClass.REFUSED


def wait_asked(headers: Mapping[str, str], now: float, *, longest: float) -> float | None:
    """Seconds from `Retry-After` (a number or an HTTP date), at most `longest`; None when it says nothing usable."""
    wait = seconds_asked(headers.get("retry-after", ""), now=now)
    return None if wait is None else min(wait, longest)
