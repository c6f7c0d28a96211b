"""The file of a batch, taken apart: JSONL or CSV, and what each line gives, before templates. Pure."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from io import StringIO
from pathlib import Path

from msgspec import Struct

from receiver.model.errors import Refused, invalid
from receiver.model.records import Json, JsonObject
from receiver.orders.repeats import refuse_repeated
from receiver.runninghub.wire import Unreadable, decode_json

WHOLE_ORDER = frozenset({"kind", "api", "target", "input", "labels"})
LABEL = "label."
CELL_LIMIT = 8 * 1024 * 1024
"""Characters of a CSV cell: what the server takes as one order."""
SEPARATOR = re.compile(r"sep=([^\r\n\"])\r?\n", re.IGNORECASE)
"""The first line by which Excel is told what separates the cells."""
DELIMITERS = (",", ";", "\t")


class Common(Struct, frozen=True, kw_only=True):
    """What all lines share. `literal` takes the file's texts as they are; `anew` sets the keys apart from others.

    `folders` are those below which the files must be that lines name.
    """

    batch: str
    model: str | None = None
    pairs: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    checked: bool = True
    literal: bool = False
    anew: str = ""
    folders: tuple[Path, ...] = ()


class Given(Struct, frozen=True, kw_only=True):
    """What a line says, before templates: `fields` are what they may name, `texts` whether values need reading."""

    input: JsonObject
    labels: JsonObject
    rest: JsonObject
    fields: Mapping[str, Json]
    texts: bool


Giver = Callable[[], Given]
"""Reads one line; raises Refused."""


def is_csv(name: str, content: bytes) -> bool:
    """Whether a file is CSV, by its name, else by how it begins."""
    ending = name.rpartition(".")[2].casefold()
    if ending in ("csv", "tsv"):
        return True
    return ending not in ("jsonl", "ndjson", "json") and content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{"


def json_lines(content: bytes, common: Common) -> Iterator[tuple[int, Giver]]:
    """Every line of a JSONL file that is not empty: its number, and what reads it."""
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield number, partial(_read_json, line, common)


def _read_json(line: bytes, common: Common) -> Given:
    try:
        value = decode_json(line)
    except Unreadable as problem:
        raise invalid("", str(problem)) from None
    if not isinstance(value, dict):
        raise invalid("", "expected a JSON object")
    refuse_repeated(line)
    whole = common.model is None or (value.keys() <= WHOLE_ORDER and isinstance(value.get("input"), dict))
    if not whole:
        return Given(input=value, labels={}, rest={}, fields=value, texts=False)
    if strange := sorted(value.keys() - WHOLE_ORDER):
        hint = "" if common.model else ", unless --model names a model and the line is its input"
        raise invalid(
            strange[0], f"there is no such field of an order; there are {', '.join(sorted(WHOLE_ORDER))}{hint}"
        )
    input, labels = (_fields(value.pop(name, {}), name) for name in ("input", "labels"))
    named = {f"{LABEL}{name}": text for name, text in labels.items()}
    return Given(input=input, labels=labels, rest=value, fields={**value, **named, **input}, texts=False)


def _fields(value: Json, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise invalid(path, "expected an object")
    return value


def csv_lines(content: bytes) -> Iterator[tuple[int, Giver]]:
    """Every row of a CSV file that is not empty, below its header: the number of its line, and what reads it."""
    csv.field_size_limit(CELL_LIMIT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield content.count(b"\n", 0, error.start) + 1, partial(_fail, invalid("", "not UTF-8: save the file as UTF-8"))
        return
    told = SEPARATOR.match(text)
    lines = StringIO(text[told.end() :] if told else text, newline="\n")  # a quoted cell keeps the ends of its lines
    reader = csv.reader(lines, delimiter=told[1] if told else _delimiter(text), strict=True)
    header: list[str] | None = None
    columns = top = 0
    before = number = 2 if told else 1
    try:
        for row in reader:
            if header is None and any(row):
                columns, top = len(row), number
                header = _without_empty_end([name.strip() for name in row])
                _check_header(header)
            elif header is not None and any(cell.strip() for cell in row[len(header) : columns]):
                yield top, partial(_fail, _nameless(len(header) + 1))
                return
            elif header is not None and any(cell.strip() for cell in row):
                yield number, partial(_read_row, header, row)
            number = reader.line_num + before
    except csv.Error as error:
        yield number, partial(_fail, invalid("", f"not CSV: {error}"))
    except Refused as refused:
        yield number, partial(_fail, refused)


def _without_empty_end(cells: list[str]) -> list[str]:
    """The cells without the empty ones at their end, which spreadsheets write for columns that were used once."""
    used = next((place for place in range(len(cells), 0, -1) if cells[place - 1].strip()), 0)
    return cells[:used]


def _delimiter(text: str) -> str:
    """What the header separates its names by: a comma, unless there is none and something else does."""
    header = text.lstrip().partition("\n")[0]
    return next((each for each in DELIMITERS if each in header), ",")


def _nameless(place: int) -> Refused:
    return invalid("", f"column {place} of the header has no name that can be used")


def _check_header(header: list[str]) -> None:
    for place, name in enumerate(header, 1):
        if not name or name == LABEL or "=" in name:
            raise _nameless(place)
        if header.index(name) != place - 1:
            raise invalid(name, "two columns have this name")


def _read_row(header: list[str], row: list[str]) -> Given:
    row = row[: len(header)] + _without_empty_end(row[len(header) :])
    if len(row) != len(header):
        raise invalid("", f"expected {len(header)} cells, as the header has, got {len(row)}")
    cells: JsonObject = dict(zip(header, row, strict=True))
    given = {name: cell for name, cell in cells.items() if cell != ""}
    labels = {name.removeprefix(LABEL): cell for name, cell in given.items() if name.startswith(LABEL)}
    rest: JsonObject = {"target": given["target"]} if "target" in given else {}
    input = {name: cell for name, cell in given.items() if name != "target" and not name.startswith(LABEL)}
    return Given(input=input, labels=labels, rest=rest, fields=cells, texts=True)


def _fail(refused: Refused) -> Given:
    raise refused
