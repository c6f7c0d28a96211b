"""A key that stands twice in one object: every reader of JSON would silently choose one of its values. Pure."""

import json
from contextlib import suppress

from receiver.model.errors import invalid
from receiver.model.records import Json

TWICE = "the key stands twice in one object: write it once"


class _Repeated(Exception):
    pass


def repeated_key(body: bytes) -> str | None:
    """The first key that an object repeats, anywhere in JSON that can be read; None when there is none."""
    # msgspec reads first, and keeps the last value without a word; only the standard library shows every pair. No
    # number is made, for one may be too long, and what is nested too deeply is refused as such.
    try:
        with suppress(RecursionError, ValueError):
            json.loads(body, object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except _Repeated as repeated:
        return str(repeated)
    return None


def refuse_repeated(body: bytes) -> None:
    """Raises Refused (422), which names the key."""
    if (name := repeated_key(body)) is not None:
        raise invalid(name[:100], TWICE)


def _distinct(pairs: list[tuple[str, Json]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise _Repeated(name)
        seen.add(name)
