"""Mints what a provider makes up: snowflake ids, client ids and file names, all from a seed and a clock."""

from collections.abc import Callable
from random import Random

TWITTER_EPOCH_MS = 1288834974657
"""Milliseconds since 1970 at which these snowflakes begin; provider ids decode to their creation time with it."""
SEQUENCE_SIZE = 4096


class Snowflakes:
    """Ids of 41 bits of milliseconds, 10 bits of node and 12 bits of sequence, strictly growing.

    `clock` gives seconds since 1970; `node` is 0..1023.
    """

    def __init__(self, clock: Callable[[], float], node: int) -> None:
        self._clock = clock
        self._node = node
        self._last = -1
        """The milliseconds and the sequence of the latest id, as one number."""

    def mint(self) -> str:
        """The next id as decimal text. It may run ahead of a clock that stands still, never behind an earlier id."""
        now = max(0, int(self._clock() * 1000) - TWITTER_EPOCH_MS)
        self._last = max(self._last + 1, now * SEQUENCE_SIZE)
        millisecond, sequence = divmod(self._last, SEQUENCE_SIZE)
        return str(millisecond << 22 | self._node << 12 | sequence)


def hex_id(rng: Random) -> str:
    """32 hexadecimal digits, as users and clients have."""
    return f"{rng.getrandbits(128):032x}"


def chance_source(seed: int, *names: object) -> Random:
    """A random source for one purpose: the same seed and names give the same draws, whatever else was drawn."""
    return Random(":".join(str(part) for part in (seed, *names)))
