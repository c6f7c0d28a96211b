"""What people do through the doors of a server: who, what, to what, and what came of it. Kept as the audit.

A deed goes with the request that does it, through the calls below. The first write that comes of it writes it down in
its own transaction, so a change never stands without its deed, and what changed nothing leaves none.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeAlias

from msgspec import Struct

from receiver.model.records import Json as Json  # by this name JsonObject refers to it
from receiver.model.records import JsonObject
from receiver.model.views import Time

Choice: TypeAlias = Mapping[str, object]
DONE = "done"
DOOR_HEADER = "x-receiver-door"
"""By what a program of ours says that it speaks for a person at a command line."""
CLI, API, PAGE = "cli", "api", "page"


@dataclass
class Deed:
    """`row` is where it is written down, None before its first write."""

    at: float
    door: str
    session: str | None
    verb: str
    object: str
    filter: JsonObject = field(default_factory=dict)
    count: int | None = None
    row: int | None = None


class DeedRecord(Struct, frozen=True, kw_only=True):
    """A deed as it is kept. `result` is `done`, or the code of the refusal; `count` is how many rows it was about."""

    id: int
    at: float
    door: str
    session: str | None
    verb: str
    object: str
    filter: JsonObject
    count: int | None
    result: str


class DeedView(Struct, frozen=True, kw_only=True):
    """The same for the API."""

    id: int
    at: Time
    door: str
    session: str | None
    verb: str
    object: str
    filter: Choice
    count: int | None
    result: str


ACTING: ContextVar[Deed | None] = ContextVar("acting", default=None)
"""What is being done just now, on this way through the program; None where nobody but the program itself acts."""


def about(object: str | None = None, *, filter: JsonObject | None = None, count: int | None = None) -> None:
    """Says more of the deed that goes on, if any does: its object, what it chose by, how many rows that were."""
    deed = ACTING.get()
    if deed is not None:
        deed.object = deed.object if object is None else object
        deed.filter = deed.filter if filter is None else filter
        deed.count = deed.count if count is None else count
