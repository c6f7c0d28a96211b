"""Pages of lists, newest first, however long the ledger is.

A list is asked for as ranges: rows that lie side by side in an index, newest last. Each range gives its newest rows, or
those on one side of a cursor that are nearest to it, and the nearest of all are the page. So a page costs as much as it
has ranges, however many rows match.

Where no index answers a filter (two labels at once), the rows of a range are walked with a condition, a bounded number
of them for one page: then a page may be short, and its cursor says where to go on.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from receiver.model.errors import Refused, invalid
from receiver.model.records import Filter, Page, TaskError
from receiver.store.ledger.access import Leniently, marks
from receiver.store.ledger.transaction import Row, Transaction

R = TypeVar("R")

WALKED, LEAST_WALKED = 4000, 200
"""Rows that are looked at for one page where no index answers the filter, and of one range: some milliseconds."""

UNREADABLE = "unreadable"
"""The state of what another version wrote."""

Place = tuple[float, int]
"""Where a row stands in its list: its time, and its key among those of the same time."""


class Table(NamedTuple):
    """What a list is made of: the rows, and the columns that order them."""

    name: str
    at: str
    key: str


class Range(NamedTuple):
    """Rows of a table that one index holds in their order. `holds` is a condition that is no part of the index."""

    table: Table
    where: str
    values: tuple[object, ...] = ()
    holds: str = ""
    held: tuple[object, ...] = ()


def page_of(
    tx: Transaction,
    ranges: Sequence[Range],
    wanted: Filter,
    select: str,
    read: Callable[[Row], R],
    *,
    key: str = "id",
) -> Page[R]:
    """A page out of its ranges. `select … in ({keys})` gives whole rows for keys, which stand in the column `key`.

    It has the rows that follow a cursor (`after`, or `cursor`), or those that go before it, the nearest ones.
    """
    back = wanted.before is not None
    field = "before" if back else "cursor" if wanted.after is None else "after"
    start = read_cursor(getattr(wanted, field), field)
    places: set[Place] = set()
    seen_to: Place | None = None  # how far the walk that got the least far has looked
    steps = max(LEAST_WALKED, WALKED // max(1, sum(bool(each.holds) for each in ranges)))
    nearer = min if back else max
    for each in ranges:
        found, stopped = _nearest(tx, each, wanted, start, steps, back=back)
        places.update(found)
        if stopped is not None:
            seen_to = nearer(seen_to or stopped, stopped)
    seen = [place for place in places if seen_to is None or nearer(place, seen_to) == place]
    shown = sorted(seen, reverse=not back)
    more = len(shown) > wanted.limit
    shown = shown[: wanted.limit]
    last = shown[-1] if more else seen_to
    if back:
        shown.reverse()
    rows = _rows(tx, select, key, [place for _, place in shown])
    items = [as_shown(read, rows[place]) for _, place in shown if place in rows]
    return Page(items=items, **_ways_on(shown, start, last, back=back))


def _ways_on(shown: Sequence[Place], start: Place | None, last: Place | None, *, back: bool) -> dict[str, str | None]:
    """The cursors of the pages on both sides: one goes on from the `last` place, the other leads back to the start."""
    goes_on = write_cursor(last) if last else None
    if start is None:
        return {"next": goes_on}
    # Without a row to begin at, the way back begins at the start, which it must not leave out.
    at, number = start
    inside = shown[-1 if back else 0] if shown else (at, number + 1) if back else (at, max(0, number - 1))
    leads_back = write_cursor(inside)
    return {"next": leads_back, "prev": goes_on} if back else {"next": goes_on, "prev": leads_back}


def as_shown(read: Callable[[Row], R], row: Row) -> R:
    """A row as it is shown. One that cannot be read shows what can be: its state is unreadable, and the reason stands
    where its errors do.
    """
    try:
        return read(row)
    except Refused:
        lenient = Leniently(row)
        item: Any = read(lenient)
    told = f"unreadable, perhaps of another version: {', '.join(lenient.unread)}"
    error = TaskError(code=UNREADABLE, name="ROW_UNREADABLE", message=told)
    said = {"error": error, "reason": told, "problem": told, "message": told, "summary": told}
    field = next((name for name in said if name in item.__struct_fields__), None)
    instead: dict[str, object] = {field: said[field]} if field else {}
    if "state" in item.__struct_fields__:
        instead["state"] = UNREADABLE
    shown: R = replace(item, **instead)
    return shown


def words(tx: Transaction, table: str, column: str, where: str = "1 = 1", values: Sequence[object] = ()) -> list[str]:
    """The distinct words in the column by which an index goes on after `where`, also those of another version.

    One look into the index for each.
    """
    found: list[str] = []
    first = f"select min({column}) as value from {table} where {where}"
    word: str | None = tx.value(first, *values)
    while word is not None:
        found.append(word)
        word = tx.value(f"{first} and {column} > ?", *values, word)
    return found


def _nearest(
    tx: Transaction, each: Range, wanted: Filter, start: Place | None, steps: int, *, back: bool
) -> tuple[list[Place], Place | None]:
    """The places of a range's rows that are nearest to the start, or its newest ones; and the place at which a walk
    was stopped, None when it saw them all.
    """
    name, at, key = each.table
    where, values = [each.where], list(each.values)
    since, until = wanted.since, wanted.until
    way, beyond = ("asc", ">") if back else ("desc", "<")
    # Of two bounds on one side SQLite seeks by one and walks to the other: so only the narrower is told.
    if start is not None and back and (since is None or start[0] >= since):
        since = None
    elif start is not None and not back and (until is None or start[0] < until):
        until = None
    else:
        start = None
    for column, bound in ((f"{at} >= ?", since), (f"{at} < ?", until)):
        if bound is not None:
            where.append(column)
            values.append(bound)
    if start is not None:
        where.append(f"({at}, {key}) {beyond} (?, ?)")
        values += start
    order = f"order by {at} {way}, {key} {way} limit ?"
    narrow = f"select {at} as at, {key} as place from {name} where {' and '.join(where)} {order}"
    if not each.holds:
        rows = tx.all(narrow, *values, wanted.limit + 1)
        return [(row["at"], row["place"]) for row in rows], None
    rows = tx.all(
        f"select w.at, w.place from ({narrow}) w where {each.holds} order by w.at {way}, w.place {way} limit ?",
        *(*values, steps, *each.held, wanted.limit + 1),
    )
    found = [(row["at"], row["place"]) for row in rows]
    if len(found) > wanted.limit:
        return found, None
    last = tx.one(f"select w.at, w.place from ({narrow} offset ?) w", *values, 1, steps - 1)
    return found, (last["at"], last["place"]) if last is not None else None


def _rows(tx: Transaction, select: str, key: str, keys: Sequence[int]) -> Mapping[int, Row]:
    if not keys:
        return {}
    return {row[key]: row for row in tx.all(select.format(keys=marks(keys)), *keys)}


def write_cursor(place: Place) -> str:
    """The place after which the next page begins, as a text."""
    at, key = place
    return f"{at!r}_{key}"


def read_cursor(text: str | None, field: str = "cursor") -> Place | None:
    """Raises Refused (422) for what is no cursor of ours, with the field it stands in."""
    if text is None:
        return None
    at, separator, key = text.partition("_")
    try:
        if separator and len(text) < 64 and key.isascii() and key.isdecimal() and len(key) < 19:
            place = float(at), int(key)
            if 0.0 <= place[0] < math.inf and write_cursor(place) == text:
                return place
    except ValueError:
        pass
    raise invalid(field, "expected the text that another page gave as `next` or `prev`")
