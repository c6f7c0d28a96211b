"""How long an HTTP answer asks us to wait. Pure."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

AGAIN = frozenset({408, 425, 429})


def is_worth_retrying(status: int) -> bool:
    """Whether the other side may answer better later."""
    return status in AGAIN or 500 <= status <= 599


def wait_asked(headers: Mapping[str, str], now: float, *, longest: float) -> float | None:
    """Seconds from `Retry-After` (a number or an HTTP date), at most `longest`; None when it says nothing usable."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    if value.isascii() and value.isdecimal():
        return min(float(value[:12]), longest)
    try:
        moment = parsedate_to_datetime(value)
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max(0.0, moment.timestamp() - now), longest)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
