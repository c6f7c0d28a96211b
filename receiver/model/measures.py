"""What a running server measures of itself, in memory: counts, and how long things took. Nothing else is known here."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import partial

SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Bounds in seconds for what somebody waits for: a commit, a request, a question to the provider."""
LONG = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Bounds in seconds for a try of an action: downloads take minutes."""
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0)
"""Bounds for the writes that are committed together."""
REFUSALS = ("token", "too_large", "unreadable", "disk", "busy")
"""Why a callback is not taken, or not as it should be."""


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Histogram:
    """How many measurements lay within each bound, and beyond the last one; and their sum. One thread writes it."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def note(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Meter:
    """`requests` are by route, method and status, `asked` by the provider's operation and what came of it."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter(dict.fromkeys(REFUSALS, 0))
        self.taken = Histogram(SHORT)
        """Seconds from a callback's last byte until it is on disk."""
        self.requests: Counter[tuple[str, str, int]] = Counter()
        self.request_seconds: dict[str, Histogram] = defaultdict(partial(Histogram, SHORT))
        self.asked: Counter[tuple[str, str]] = Counter()
        self.asked_seconds: dict[str, Histogram] = defaultdict(partial(Histogram, SHORT))
        self.asking = 0
        """Questions to the provider that wait for an answer."""
        self.answered_at: float | None = None
        """When the provider answered last."""
        self.try_seconds: dict[str, Histogram] = defaultdict(partial(Histogram, LONG))
        self.balance: dict[str, float] = {}
        """What was left when the account was last asked about: coins, and money by its currency."""

    def note_request(self, route: str, method: str, status: int, seconds: float) -> None:
        """One more request to a route of ours. What no route or method of HTTP is has no name of its own here."""
        self.requests[route, method if method in METHODS else "other", status] += 1
        self.request_seconds[route].note(seconds)
