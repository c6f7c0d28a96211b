"""What a refusal by the server means for a batch: a line fails, all of it ends, or the same is asked again later."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from receiver.cli.batch.tally import Why
from receiver.cli.outcome import problems_of
from receiver.client import ApiError, Unreachable
from receiver.model.errors import ReceiverError

T = TypeVar("T")

AWAY = frozenset({429, 502, 503, 504})
"""Answers of a server that will be back, or of a proxy in front of it."""
FATAL = AWAY | {401, 403, 404}
"""Answers that every other line would get as well."""
FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0


class Interrupted(ReceiverError):
    """The batch is being stopped."""


@dataclass
class Patience:
    """Asks again, ever more slowly, while the server is away; gives up after `bound` seconds without an answer."""

    bound: float
    stop: threading.Event
    on_away: Callable[[], None] = lambda: None
    clock: Callable[[], float] = time.monotonic
    away: str | None = None
    """What the server's absence looks like now; None when it answers."""

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
            self.stop.wait(rest if hint is None else min(max(rest, hint), begun + self.bound - now))
            rest = min(LONGEST_PAUSE, rest * 2)
        raise Interrupted("stopped")


def is_fatal(error: ApiError) -> bool:
    """Whether every other line would get the same answer."""
    return error.status in FATAL or error.code in ("no_api_key", "unreadable", "http_error")


def reasons(error: ApiError) -> list[Why]:
    """Why the server refuses a line, problem by problem."""
    return [Why(code=error.code, path=path, message=message) for path, message in problems_of(error)]
