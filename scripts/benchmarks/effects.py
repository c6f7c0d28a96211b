"""User's functions, for actions."""

import time
from typing import Any

begun: dict[str, float] = {}
"""By task, when its action began."""


def nothing(event: dict[str, Any]) -> None:
    pass


def note(event: dict[str, Any]) -> None:
    begun[event["task"]["id"]] = time.perf_counter()
