"""All connections of the server together: how many, how many bytes in flight, and who gives way when it is too much."""

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import structlog

from receiver.model import rules
from receiver.model.rules import DoorLimits

log = structlog.get_logger()


def raise_file_limit() -> int:
    """Lets this process have as many files and sockets as the system allows it. Returns how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 2**31 if soft == resource.RLIM_INFINITY else soft


class Guest(Protocol):
    """A connection, as far as the door knows it."""

    since: float
    """When it began to wait for what it waits for."""
    held: int
    """Bytes of the request in hand that are in memory because of it."""

    @property
    def receives(self) -> bool:
        """Whether the next move is its sender's."""

    @property
    def gives_way(self) -> bool:
        """Whether any of what it holds is not in the program's hands yet."""

    def refuse(self, status: int, code: str, message: str) -> None: ...

    def abort(self) -> None: ...

    def overstayed(self, now: float, passed: float) -> None:
        """Ends it if what it waits for did not come; `passed` seconds are new since the last look."""


class Door:
    """`clock` is in seconds and need not be the time of day; it is read once a round, which is exact enough."""

    def __init__(self, limits: DoorLimits, *, clock: Callable[[], float]) -> None:
        self.limits = limits
        self._clock = clock
        self.now = clock()
        self.held = 0
        """Bytes of requests in memory, of all connections."""
        self.connections: set[Guest] = set()
        self.idle: dict[Guest, None] = {}
        """Those without a whole head, the oldest first."""
        self._refused: Counter[str] = Counter()

    def enter(self, connection: Guest) -> None:
        """One more. When there are too many, one that waits for its sender ends, the oldest idle one first."""
        self.connections.add(connection)
        self.idle[connection] = None
        if len(self.connections) <= self.limits.connections:
            return
        self.note("too_many_connections")
        oldest = next(iter(self.idle))
        if oldest is connection:  # nobody is idle
            oldest = min((each for each in self.connections if each.receives), key=lambda each: each.since)
        self.leave(oldest)
        oldest.abort()

    def leave(self, connection: Guest) -> None:
        self.connections.discard(connection)
        self.idle.pop(connection, None)

    def relieve(self) -> None:
        """Too many bytes are in flight: the largest unfinished requests give way. Small ones do only at last."""
        most = self.limits.bytes_in_flight
        self._refuse_largest(most, rules.SMALL_REQUEST)
        if self.held > most * rules.IN_FLIGHT_AT_LAST:
            self._refuse_largest(most, 0)

    def _refuse_largest(self, most: int, least: int) -> None:
        unfinished = (each for each in self.connections if each.gives_way)
        for each in sorted(unfinished, key=lambda each: each.held, reverse=True):
            # Some room is made besides, or the next bytes would have all of them sorted again.
            if self.held <= most * rules.IN_FLIGHT_RELIEVED or each.held <= least:
                return
            each.refuse(503, "too_busy", "too many bytes are in flight; send it again later")

    def note(self, reason: str) -> None:
        """One was refused. Strangers must not fill the log: it is told with the next round."""
        self._refused[reason] += 1

    def sweep(self) -> None:
        """Ends every connection that has kept us waiting for too long."""
        now = self._clock()
        passed, self.now = now - self.now, now
        for each in tuple(self.connections):
            if now - each.since > rules.LINGER:
                each.overstayed(now, passed)
        if self._refused:
            log.warning("requests refused at the door", **self._refused)
            self._refused.clear()

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(rules.DOOR_ROUND)
            try:
                self.sweep()
            except Exception:  # without these rounds nothing would ever end
                log.exception("door")
