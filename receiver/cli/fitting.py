"""Tables for a narrow terminal: a row is a line, and what must be copied or compared is never cut. Pure."""

import re
import textwrap
from collections.abc import Collection, Sequence

from rich.cells import cell_len, set_cell_size

MOMENT = re.compile(r"\d{4}-(\d\d-\d\d \d\d:\d\d):\d\d")
GAP = 2
"""Blanks between two columns."""
LEAST = 8
"""Characters that are left of a text: less of it says nothing."""
IN_LINES = "message"
"""The column whose texts go on in further lines: nothing else shows the whole of an alert's message."""
CUT = "…"

Cells = list[list[str]]


def fitted(
    headers: Sequence[str], rows: Sequence[Sequence[str]], width: int, kept: Collection[str]
) -> tuple[list[str], Cells, list[str]]:
    """The table within `width`, and the headers of the columns for which there was no room.

    Columns without any content go first, then the years and seconds of times, then the ends of texts, then whole
    columns from the right. The columns `kept` are never cut.
    """
    used = [place for place in range(len(headers)) if not rows or any(row[place] for row in rows)]
    names = [headers[place] for place in used]
    cells = [[row[place] for place in used] for row in rows]
    if _width(_widths(names, cells)) > width:
        cells = [[_without_year(cell) for cell in row] for row in cells]
    whole = [name in kept or (bool(cells) and all(map(_is_time, column))) for name, column in _columns(names, cells)]
    left_out: list[str] = []
    while _width(least := _least(names, cells, whole)) > width and not all(whole):
        # What goes on in further lines can do with little room, and goes last.
        place = max((place for place, kept in enumerate(whole) if not kept), key=lambda at: (names[at] != IN_LINES, at))
        left_out.append(names.pop(place))
        for row in cells:
            del row[place]
        del whole[place]
    widths = _shrunk(_widths(names, cells), least, width)
    return _cut(names, widths), [line for row in cells for line in _lines(names, row, widths)], left_out[::-1]


def _columns(names: Sequence[str], cells: Cells) -> list[tuple[str, list[str]]]:
    return [(name, [row[place] for row in cells]) for place, name in enumerate(names)]


def _widths(names: Sequence[str], cells: Cells) -> list[int]:
    return [max(map(cell_len, [name, *column])) for name, column in _columns(names, cells)]


def _least(names: Sequence[str], cells: Cells, whole: Sequence[bool]) -> list[int]:
    """How narrow each column may become."""
    return [each if kept else min(each, LEAST) for each, kept in zip(_widths(names, cells), whole, strict=True)]


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _shrunk(widths: list[int], least: Sequence[int], width: int) -> list[int]:
    """The widths, the widest of them made narrower until all fit, as far as they may."""
    widths = widths.copy()
    while _width(widths) > width:
        spare = [place for place, each in enumerate(widths) if each > least[place]]
        if not spare:
            break
        widths[max(spare, key=lambda place: widths[place])] -= 1
    return widths


def _cut(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell if cell_len(cell) <= width else set_cell_size(cell, width - 1).rstrip() + CUT
        for cell, width in zip(row, widths, strict=True)
    ]


def _lines(names: Sequence[str], row: list[str], widths: Sequence[int]) -> Cells:
    """A row as lines: one, unless a text in it may go on in others."""
    if IN_LINES not in names:
        return [_cut(row, widths)]
    place = names.index(IN_LINES)
    first, *others = textwrap.wrap(row[place], widths[place]) or [""]
    lines = [[*row[:place], first, *row[place + 1 :]]]
    lines += [["" if each != place else text for each in range(len(row))] for text in others]
    return [_cut(line, widths) for line in lines]


def _without_year(cell: str) -> str:
    found = MOMENT.fullmatch(cell)
    return found[1] if found else cell


def _is_time(cell: str) -> bool:
    return cell == "" or (cell[:1].isdigit() and cell[-3:-2] == ":")
