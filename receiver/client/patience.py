"""Asking a server that is away for a while: one that is restarted, or behind a proxy that finds nobody."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from receiver.client.transport import ApiError, Unreachable
from receiver.model.errors import ReceiverError

T = TypeVar("T")

AWAY = frozenset({429, 502, 503, 504})
"""Answers of a server that will be back, or of a proxy in front of it."""
USUAL = 300.0
"""Seconds for which a server is waited for: a restart takes up to a minute, a deployment some more."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
ALONE = 2.0
"""Seconds between two questions at the most: of one who asks on many threads, and of one who asks alone."""


class Interrupted(ReceiverError):
    """What is asked is of no interest any more."""


@dataclass
class Patience:
    """Asks again, ever more slowly, while the server is away; gives up after `bound` seconds without an answer."""

    bound: float
    stop: threading.Event = field(default_factory=threading.Event)
    on_away: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    away: str | None = None
    """What the server's absence looks like now; None when it answers."""
    longest: float = LONGEST_PAUSE
    pause: Callable[[float], object] | None = None
    """How to wait; None: until the seconds are over or `stop` is set."""

    def ask(self, question: Callable[[], T]) -> T:
        """Raises what the server refuses, its absence when that lasts, and Interrupted."""
        begun: float | None = None
        rest = FIRST_PAUSE
        while not self.stop.is_set():
            try:
                answer = question()
            except (Unreachable, ApiError) as error:
                now = self.clock()
                begun = now if begun is None else begun
                if (isinstance(error, ApiError) and error.status not in AWAY) or now - begun >= self.bound:
                    raise
                self.away = str(error)
                self.on_away()
                hint = error.retry_after if isinstance(error, ApiError) else None
            else:
                self.away = None
                return answer
            # A server that says when to come again is believed, but not for longer than we have.
            wait = self.pause or self.stop.wait
            wait(rest if hint is None else min(max(rest, hint), begun + self.bound - now))
            rest = min(self.longest, rest * 2)
        raise Interrupted("stopped")
