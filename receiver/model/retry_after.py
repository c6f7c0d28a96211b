"""When to come again, as an HTTP answer's Retry-After header says it: in seconds, or as a date. Pure."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

SECONDS = re.compile(r"[0-9]+(\.[0-9]*)?")
"""The standard knows whole seconds; some servers send fractions."""


def seconds_asked(value: str, *, date: str = "", now: float | None = None) -> float | None:
    """Seconds to wait by this header; None when it says nothing usable.

    A date is counted from `now`, where it may lack a zone; without `now` from the answer's own Date header `date`.
    """
    text = value.strip()
    if SECONDS.fullmatch(text):
        return float(text[:12])
    try:
        moment = parsedate_to_datetime(text)
        if now is None:
            return max(0.0, (moment - parsedate_to_datetime(date)).total_seconds())
        return max(0.0, (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
