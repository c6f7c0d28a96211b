"""The stream as both of its sides know it: what is told, in which form, and how long either waits. Pure.

The limits stand here as others do in `receiver.model.rules`, each with the reason for its size. Times in seconds.
"""

from msgspec import Struct

KINDS = ("task", "action", "delivery", "alert", "replay")
"""The kinds of rows of which the stream tells."""
RESET = "reset"
"""What is told to a reader whose place is unknown: anything may have changed, look at it anew."""

KEPT = 10_000
"""Changes that a reader may miss and still be told: those of some minutes under load, in about three megabytes."""
READERS = 64
"""Readers at once: ten people with six windows each. Each holds a connection for as long as it wants."""
RESTS = 0.1
"""Between two tellings. What changes meanwhile goes out together: it is the tellings that cost (measured)."""
HEARTBEAT = 5.0
"""After which something is written though nothing changed. Proxies cut off what is silent, the first after 10 s."""
SILENCE = 3 * HEARTBEAT
"""After which a reader that hears nothing knows that nobody is there, or that a proxy keeps all for itself."""
PIECE = 256
"""Changes that are written at once to a reader who has to catch up, some 30 KB."""
UNREAD = 32 * 1024
"""Bytes that the system is told to hold for a reader who does not read on (Linux doubles it); 64 KiB wait here."""
VANISHED = 60.0
"""After which a reader is gone whose machine confirms nothing: it would hold its place for a quarter of an hour."""
FULL_RETRY = 10
"""After which somebody comes again for whom there was no place."""
RETRY = 1.0
"""After which a reader comes again that was cut off."""


class ChangeView(Struct, frozen=True, kw_only=True):
    """The data of an event: the row that changed, and the state it came to."""

    id: str
    state: str
