"""How a batch stands, while it runs, on standard error: a bar on a terminal, else a line now and then."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from receiver.cli.show import clean, note
from receiver.cli.waiting import live_line

EVERY = 10.0
"""Seconds between two lines where no bar can be drawn."""
ON_THEIR_WAY = ("queued", "submitting", "submitted")
WITHOUT_SUCCESS = ("failed", "cancelled", "rejected", "lost", "refused")
ENDED = ("succeeded", *WITHOUT_SUCCESS)

Teller = Callable[[Mapping[str, int], str | None, str | None], None]
"""Is told how many lines are in which state, why the server cannot be asked, if so, and what is being uploaded."""


@contextmanager
def shown_progress(total: int) -> Iterator[Teller]:
    """Shows how many of a batch's lines have ended, while it runs."""
    with live_line("", ("BarColumn", "MofNCompleteColumn", "TextColumn", "TimeElapsedColumn"), total) as update:
        if update is None:
            yield line_now_and_then(time.monotonic)
        else:
            yield lambda counts, *more: update(
                completed=count_of(counts, ENDED), description=clean(sentence(counts, *more))
            )


def line_now_and_then(clock: Callable[[], float], say: Callable[[str], None] = note) -> Teller:
    """A line every ten seconds, and one at once when the server goes away or comes back."""
    last = (clock(), False)

    def tell(counts: Mapping[str, int], away: str | None, uploading: str | None) -> None:
        nonlocal last
        now = clock()
        if now - last[0] >= EVERY or last[1] != (away is not None):
            last = (now, away is not None)
            say(sentence(counts, away, uploading))

    return tell


def sentence(counts: Mapping[str, int], away: str | None, uploading: str | None) -> str:
    """How a batch stands, in words."""
    ordered = sum(counts.values()) - count_of(counts, ("unsent", "refused"))
    running, failed = count_of(counts, ON_THEIR_WAY), count_of(counts, WITHOUT_SUCCESS)
    done, doubt = counts.get("succeeded", 0), counts.get("in_doubt", 0)
    numbers = f"submitted {ordered}, running {running}, done {done}, failed {failed}, in doubt {doubt}"
    waiting = f"waiting for the server: {away}" if away else None
    return "; ".join(filter(None, (numbers, uploading, waiting)))


def count_of(counts: Mapping[str, int], states: Iterable[str]) -> int:
    """How many lines are in one of these states."""
    return sum(counts.get(state, 0) for state in states)
