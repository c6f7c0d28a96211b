"""Lists: what they are narrowed by stands in the address, pages follow a cursor, and all of it goes out as CSV."""

import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from receiver.console.page import Console, Handler, cleaned
from receiver.console.show import address
from receiver.model.errors import Refused
from receiver.model.records import Filter, JsonObject, Page
from receiver.store import Store
from receiver.web.filters import CURSORS, LIMIT_MOST, Filters, refuse_unknown, wanted_of

R = TypeVar("R")
V = TypeVar("V", bound=Struct)

FORMULAS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet take a cell for a formula."""
BAD_FILTER = (400, 409, 422)


class Listed(Struct, Generic[V], frozen=True, kw_only=True):
    """A page of a list: its rows, the short ids of their tasks, the filters that are set, and what is wrong with them.

    `older`, `newer` and `csv` are addresses, `first` is one where this is not the first page.
    """

    items: list[V]
    short: dict[str, str]
    chips: list[tuple[str, str, str]]
    problems: list[JsonObject]
    older: str | None
    newer: str | None
    first: str | None
    csv: str | None


class List(Struct, Generic[R, V], frozen=True):
    """A list of the store as a page shows it. `task` is the field that has the id of a task, `columns` those of CSV."""

    path: str
    verb: Callable[[Store, Filter], Awaitable[Page[R]]]
    view: Callable[[R], V]
    filters: Filters
    task: str
    columns: Sequence[str] = ()

    async def listed(self, console: Console, request: Request) -> Listed[V]:
        asked = cleaned(request)
        given = [pair for pair in asked.query_params.multi_items() if pair[0] not in CURSORS]
        try:
            found = await self.verb(console.store, await self._wanted(console, asked))
        except Refused as refused:
            if refused.status not in BAD_FILTER:
                raise
            chips, wrong = self._chips(given), problems_of(refused)
            return Listed(items=[], short={}, chips=chips, problems=wrong, older=None, newer=None, first=None, csv=None)
        ids = [getattr(each, self.task) for each in found.items] if self.task else []
        query = {name: [value for key, value in given if key == name] for name, _ in given}
        return Listed(
            items=[self.view(each) for each in found.items],
            short=await console.store.short_ids(ids) if ids else {},
            chips=self._chips(given),
            problems=[],
            older=address(self.path, {**query, "after": found.next}) if found.next else None,
            newer=address(self.path, {**query, "before": found.prev}) if found.prev else None,
            first=address(self.path, query) if not set(CURSORS).isdisjoint(asked.query_params) else None,
            csv=address(f"{self.path}.csv", query) if self.columns else None,
        )

    def exported(self) -> Handler:
        """The handler of the list as CSV: all that the filters leave, page by page."""

        async def handler(console: Console, request: Request) -> Response:
            wanted = replace(await self._wanted(console, cleaned(request)), limit=LIMIT_MOST)
            name = self.path.strip("/")
            headers = {"content-disposition": f'attachment; filename="{name}.csv"'}
            return StreamingResponse(
                self._lines(console, wanted), media_type="text/csv; charset=utf-8", headers=headers
            )

        return handler

    async def _wanted(self, console: Console, asked: Request) -> Filter:
        refuse_unknown(asked, self.filters)
        return await wanted_of(console.store, asked, self.filters)

    async def _lines(self, console: Console, wanted: Filter) -> AsyncIterator[str]:
        yield _line(self.columns)
        cursor = wanted.cursor or wanted.after
        while True:
            found = await self.verb(console.store, replace(wanted, cursor=None, before=None, after=cursor))
            for each in found.items:
                row = self.view(each)
                yield _line([_cell(row, column) for column in self.columns])
            cursor = found.next
            if cursor is None:
                return

    def _chips(self, given: Sequence[tuple[str, str]]) -> list[tuple[str, str, str]]:
        """Each filter that is set, with the address without it."""
        chips = []
        for place, (name, value) in enumerate(given):
            rest = [pair for other, pair in enumerate(given) if other != place]
            query = {key: [each for each_name, each in rest if each_name == key] for key, _ in rest}
            chips.append((name, value, address(self.path, query)))
        return chips


def problems_of(refused: Refused) -> list[JsonObject]:
    """What is wrong with a form, each with its field."""
    told = refused.details if isinstance(refused.details, list) else []
    return [each for each in told if isinstance(each, dict)] or [{"path": "", "message": refused.message}]


def _cell(row: Struct, column: str) -> str:
    value: object = row
    for name in column.split("."):
        value = getattr(value, name, None)
    if isinstance(value, dict):
        return safe(" ".join(f"{name}={text}" for name, text in value.items()))
    return "" if value is None else safe(str(value))


def safe(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula. Plain numbers stay what they are."""
    if not cell.startswith(FORMULAS):
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def _line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()
