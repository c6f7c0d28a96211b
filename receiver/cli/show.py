"""Prints tables, fields and JSON. Text from outside is made harmless to a terminal before it is printed."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import click

if TYPE_CHECKING:
    from receiver.client import Listed

T = TypeVar("T")
Cell: TypeAlias = str | int | float | None
Row: TypeAlias = Sequence[Cell]

ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # colours and cursor moves
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|\x9c|$)"  # titles, links, the clipboard
    r"|\x1b[ -/]*[0-~]?"
    r"|\x9b[0-?]*[ -/]*[@-~]",
    re.DOTALL,
)
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of writing."""
RAW_IN_JSON = re.compile(r"[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")
STYLES = {
    **dict.fromkeys(("succeeded", "done", "ok"), "green"),
    **dict.fromkeys(("failed", "rejected", "dead", "lost", "no", "open", "problem", "unreadable"), "red"),
    **dict.fromkeys(("in_doubt", "cancelled", "skipped", "retry", "paused", "warning"), "yellow"),
    **dict.fromkeys(("running", "submitted"), "cyan"),
}
KEPT_WHOLE = frozenset({"id", "task", "state", "endpoint", "parameter", "at (UTC)", "created (UTC)", "received (UTC)"})
"""Columns that a narrow terminal must not wrap or cut, since they are copied or compared."""
WIDEST_CELL = 60
WIDE = 100_000
"""Columns of a table of which nothing is cut."""


def clean(text: object, keep: str = "") -> str:
    """The text without escape sequences and control characters; line ends and tabs become blanks unless in `keep`."""
    bare = ESCAPES.sub("", str(text))
    return CONTROLS.sub(lambda found: found[0] if found[0] in keep else " " if found[0] in "\n\r\t" else "", bare)


def answer(content: T, as_json: bool, show: Callable[[T], None]) -> None:
    """Prints an answer of the server: with --json as JSON, else with `show`."""
    if as_json:
        document(content)
    else:
        show(content)


def document(content: object) -> None:
    """Prints a JSON document."""
    click.echo(_json(content))


def document_of(page: "Listed[T]", items: Iterable[T]) -> None:
    """Prints a page as a JSON document with these items, which are not held: a list may be long."""
    from msgspec.structs import replace

    head, empty, tail = _json(replace(page, items=[])).partition("[]")
    separator = "[\n"
    click.echo(head, nl=False)
    for item in items:
        click.echo(separator + indent(_json(item), "    "), nl=False)
        separator = ",\n"
    click.echo((empty if separator == "[\n" else "\n  ]") + tail)


def _json(content: object) -> str:
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(content), indent=2).decode()
    # JSON leaves these as they are, and a terminal may act on them.
    return RAW_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def note(text: str) -> None:
    """Prints a remark on standard error, beside the output."""
    click.echo(clean(text), err=True)


def json_text(value: object) -> str:
    """A value in one line: text as it is, anything else as JSON."""
    import msgspec

    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def submit_line(*words: str) -> str:
    """The command line that submits an order, ready to be copied."""
    import shlex

    return shlex.join(["receiver", "submit", *words])


def table(headers: Sequence[str], rows: Iterable[Row], title: str = "", *, width: int | None = None) -> None:
    """Prints rows below headers: drawn for a terminal, else aligned text. With a title, nothing if there are none.

    With a `width`, a row is a line of so many characters at the most, and shorter texts have to do.
    """
    cells = [[clean("" if cell is None else cell) for cell in row] for row in rows]
    if title and not cells:
        return
    if title:
        click.echo(f"\n{title}")
    if width is not None:
        from receiver.cli.fitting import fitted

        headers, cells, left_out = fitted(headers, cells, width, KEPT_WHOLE)
        if left_out:
            note(f"left out for want of width: {', '.join(left_out)}; --wide has them")
    if sys.stdout.isatty():
        draw(headers, cells, width=width)
    else:
        click.echo("\n".join(aligned([headers, *cells])))


def paragraph(text: str, *, indent: int = 0) -> None:
    """Prints a text, in lines as wide as the terminal. No word is broken: it may have to be copied."""
    import textwrap

    margin = " " * indent
    width = room() or WIDE
    said = textwrap.fill(
        *(clean(text), width),
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    click.echo(said)


def room(*, wide: bool = False) -> int | None:
    """The width of the terminal, or COLUMNS where that is set; None where lines may be as long as they like."""
    if wide:
        return WIDE
    if sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdecimal():
        return shutil.get_terminal_size().columns
    return None


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines with their columns below one another."""
    from rich.cells import cell_len, set_cell_size

    widths = [max(map(cell_len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(set_cell_size, row, widths)).rstrip() for row in rows]


def draw(
    headers: Sequence[str], rows: Sequence[Sequence[str]], file: object = None, *, width: int | None = None
) -> None:
    """The table for a terminal, without empty columns. Cells are text, never markup.

    With a `width`, in which the rows fit, a row is a line; else long texts go on in further lines.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    used = [column for column in range(len(headers)) if any(row[column] for row in rows)]
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in used:
        kept, most = headers[column] in KEPT_WHOLE, WIDEST_CELL if width is None else None
        drawn.add_column(headers[column], no_wrap=kept or width is not None, overflow="fold", max_width=most)
    for row in rows:
        cells = (row[column] for column in used)
        drawn.add_row(*(Text(cell, style=STYLES.get(cell.partition(" ")[0], "")) for cell in cells))
    Console(file=file, highlight=False, width=width).print(drawn)  # type: ignore[arg-type]


def fields(*pairs: tuple[str, Cell]) -> None:
    """Prints names and values, one pair a line; what is empty is left out."""
    rows = [(name, clean(value)) for name, value in pairs if value not in (None, "")]
    for line in aligned(rows):
        click.echo(line)
