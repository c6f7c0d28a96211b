"""The file of a batch, read: each line becomes an order with a key of its own, or a problem. Pure.

The key is made of the order alone and of how many equal ones stand above it, so that a file that was edited, moved
or begun again orders nothing twice.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial

import click
import msgspec
from msgspec import Struct

from receiver.cli.pairs import Reader, read_input
from receiver.drafts import NewTask
from receiver.errors import Refused
from receiver.records import Json, JsonObject, Kind
from receiver.runninghub import catalogue
from receiver.templates import LoneBrace, fill
from receiver.web.orders import read_order

WHOLE_ORDER = frozenset({"kind", "api", "target", "input", "labels"})
LABEL = "label."
ASIDE = "_"
"""How the name of a field begins that only templates use."""
CELL_LIMIT = 8 * 1024 * 1024
"""Characters of a CSV cell: what the server takes as one order."""
DELIMITERS = (",", ";", "\t")


class Common(Struct, frozen=True, kw_only=True):
    """What all lines share. `literal` leaves braces in the file as they are; `anew` sets the keys apart from others."""

    batch: str
    model: str | None = None
    pairs: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    checked: bool = True
    literal: bool = False
    anew: str = ""


class Line(Struct, frozen=True, kw_only=True):
    """An order, the number of the line it came from, and the key it is sent under."""

    number: int
    key: str
    order: NewTask


class BadLine(Struct, frozen=True, kw_only=True):
    number: int
    problems: list[tuple[str, str]]


class _Given(Struct, frozen=True, kw_only=True):
    """What a line says, before templates: `fields` are what they may name, `texts` whether values need reading."""

    input: JsonObject
    labels: JsonObject
    rest: JsonObject
    fields: Mapping[str, Json]
    texts: bool


class Wrong(Exception):
    """A line that cannot be an order: a path, and what is the matter with it."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path
        self.message = message


def is_csv(name: str, content: bytes) -> bool:
    """Whether a file is CSV, by its name, else by how it begins."""
    ending = name.rpartition(".")[2].casefold()
    if ending in ("csv", "tsv"):
        return True
    return ending not in ("jsonl", "ndjson", "json") and content.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{"


def read_lines(content: bytes, common: Common, *, csv: bool) -> tuple[list[Line], list[BadLine]]:
    """Every line as an order, and every line that is none."""
    lines: list[Line] = []
    bad: list[BadLine] = []
    seen: Counter[bytes] = Counter()
    for number, given in (_csv_lines if csv else _json_lines)(content, common):
        try:
            order = _order(number, given(), common)
        except Wrong as wrong:
            bad.append(BadLine(number=number, problems=[(wrong.path, wrong.message)]))
        except Refused as refused:
            bad.append(BadLine(number=number, problems=_problems(refused)))
        except (ValueError, OverflowError, RecursionError) as error:
            # A number, a depth or half a character that JSON cannot carry: what is sent must be what was meant.
            bad.append(BadLine(number=number, problems=[("", f"cannot be sent as JSON: {error}")]))
        else:
            seen[order.digest] += 1
            lines.append(Line(number=number, key=_key(order, seen[order.digest], common), order=order))
    return lines, bad


def filled(text: str, fields: Mapping[str, Json]) -> str:
    """A template with its `{places}` filled; `{{` and `}}` are braces. Raises Wrong."""

    def value_of(name: str) -> str:
        if name not in fields:
            there = ", ".join(f"{{{each}}}" for each in list(fields)[:20])
            raise Wrong("", f"there is no {{{name[:80]}}} in this line; there are {there}; write {{{{ for a brace")
        return _text(name, fields[name])

    try:
        return fill(text, value_of)
    except LoneBrace as error:
        raise Wrong("", f"{error}, or give --literal") from None


# ---------------------------------------------------------------- one line


def _order(number: int, given: _Given, common: Common) -> NewTask:
    """Raises Wrong and Refused."""
    fields = {**given.fields, "line": number}
    filling = partial(_fill, fields=fields)
    read = (lambda value, path: value) if common.literal else filling
    document: JsonObject = {name: read(value, name) for name, value in given.rest.items()}
    if common.model is not None:
        document.setdefault("target", common.model)
    own = {name: read(value, name) for name, value in given.input.items() if not name.startswith(ASIDE)}
    types = _types(str(document.get("target", "")), str(document.get("kind", Kind.MODEL)))
    if given.texts:
        own = _read_pairs([f"{name}={cell}" for name, cell in own.items()], types, "")
    document["input"] = {**own, **_common_input(common, filling, types)}
    labels = {name: read(value, f"labels.{name}") for name, value in given.labels.items()}
    labels |= {name: filling(text, f"--label {name}") for name, text in common.labels.items()}
    if "batch" in labels:
        raise Wrong("labels.batch", "this label is the batch's own; --name sets it")
    document["labels"] = labels
    document["validate"] = common.checked
    return read_order(document, "", None).task


def _common_input(common: Common, filling: Callable[[Json, str], Json], types: Reader | None) -> JsonObject:
    pairs = []
    for pair in common.pairs:
        name, separator, template = pair.partition("=")
        pairs.append(f"{name}{separator}{filling(template, f'--set {name}')}")
    return _read_pairs(pairs, types, "--set")


def _read_pairs(pairs: list[str], types: Reader | None, path: str) -> JsonObject:
    try:
        return read_input(None, None, pairs, types)  # type: ignore[return-value]
    except click.UsageError as error:
        raise Wrong(path, error.message) from None


def _fill(value: Json, path: str, fields: Mapping[str, Json]) -> Json:
    """A value with every text in it filled."""
    match value:
        case str():
            try:
                return filled(value, fields)
            except Wrong as wrong:
                raise Wrong(path, wrong.message) from None
        case list():
            return [_fill(item, f"{path}[{index}]", fields) for index, item in enumerate(value)]
        case dict():
            return {name: _fill(item, f"{path}.{name}", fields) for name, item in value.items()}
    return value


def _text(name: str, value: Json) -> str:
    if isinstance(value, dict | list) or value is None:
        raise Wrong("", f"{{{name}}} is no text in this line")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


@cache
def _types(target: str, kind: str) -> Reader | None:
    """How texts are read for a target by the catalogue; None when it does not know such a model."""
    try:
        return partial(catalogue.coerce, catalogue.find(target).model) if kind == Kind.MODEL else None
    except catalogue.UnknownModel:
        return None


def _key(order: NewTask, occurrence: int, common: Common) -> str:
    name = f"{common.anew}-" if common.anew else ""
    return f"batch-{name}{order.digest.hex()}-{occurrence}"


def _problems(refused: Refused) -> list[tuple[str, str]]:
    details = refused.details if isinstance(refused.details, list) else []
    found = [(str(each.get("path", "")), str(each.get("message", ""))) for each in details if isinstance(each, dict)]
    return found or [("", refused.message)]


# ---------------------------------------------------------------- JSONL

Giver = Callable[[], _Given]
"""Reads one line; raises Wrong."""


def _json_lines(content: bytes, common: Common) -> Iterator[tuple[int, Giver]]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        if line.strip():
            yield number, partial(_read_json, line, common)


def _read_json(line: bytes, common: Common) -> _Given:
    try:
        value: Json = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Wrong("", f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Wrong("", "expected a JSON object")
    whole = common.model is None or (value.keys() <= WHOLE_ORDER and isinstance(value.get("input"), dict))
    if not whole:
        return _Given(input=value, labels={}, rest={}, fields=value, texts=False)
    if strange := sorted(value.keys() - WHOLE_ORDER):
        hint = "" if common.model else ", unless --model names a model and the line is its input"
        raise Wrong(strange[0], f"there is no such field of an order; there are {', '.join(sorted(WHOLE_ORDER))}{hint}")
    input, labels = (_object(value.pop(name, {}), name) for name in ("input", "labels"))
    named = {f"{LABEL}{name}": text for name, text in labels.items()}
    return _Given(input=input, labels=labels, rest=value, fields={**value, **named, **input}, texts=False)


def _object(value: Json, path: str) -> JsonObject:
    if not isinstance(value, dict):
        raise Wrong(path, "expected an object")
    return value


# ---------------------------------------------------------------- CSV


def _csv_lines(content: bytes, common: Common) -> Iterator[tuple[int, Giver]]:
    csv.field_size_limit(CELL_LIMIT)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        yield content.count(b"\n", 0, error.start) + 1, partial(_fail, "", "not UTF-8: save the file as UTF-8")
        return
    reader = csv.reader(_kept_ends(text), delimiter=_delimiter(text), strict=True)
    header: list[str] | None = None
    number = 1
    try:
        for row in reader:
            if header is None and any(row):
                header = [name.strip() for name in row]
                _check_header(header)
            elif header is not None and any(cell.strip() for cell in row):
                yield number, partial(_read_row, header, row)
            number = reader.line_num + 1
    except csv.Error as error:
        yield number, partial(_fail, "", f"not CSV: {error}")
    except Wrong as wrong:
        yield number, partial(_fail, wrong.path, wrong.message)


def _kept_ends(text: str) -> Iterable[str]:
    """Lines with their ends, which a quoted cell keeps."""
    return re.findall(r"[^\n]*\n|[^\n]+", text)


def _delimiter(text: str) -> str:
    """What the header separates its names by: a comma, unless there is none and something else does."""
    header = text.lstrip().partition("\n")[0]
    return next((each for each in DELIMITERS if each in header), ",")


def _check_header(header: list[str]) -> None:
    for place, name in enumerate(header, 1):
        if not name or name == LABEL or "=" in name:
            raise Wrong("", f"column {place} of the header has no name that can be used")
        if header.index(name) != place - 1:
            raise Wrong(name, "two columns have this name")


def _read_row(header: list[str], row: list[str]) -> _Given:
    if len(row) != len(header):
        raise Wrong("", f"expected {len(header)} cells, as the header has, got {len(row)}")
    cells: JsonObject = dict(zip(header, row, strict=True))
    given = {name: cell for name, cell in cells.items() if cell != ""}
    labels = {name.removeprefix(LABEL): cell for name, cell in given.items() if name.startswith(LABEL)}
    rest: JsonObject = {"target": given["target"]} if "target" in given else {}
    input = {name: cell for name, cell in given.items() if name != "target" and not name.startswith(LABEL)}
    return _Given(input=input, labels=labels, rest=rest, fields=cells, texts=True)


def _fail(path: str, message: str) -> _Given:
    raise Wrong(path, message)
