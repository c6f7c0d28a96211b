"""The file of a batch, read: each line becomes an order with a key of its own, or a problem.

The key is made of the order alone and of how many equal ones stand above it, so that a file that was edited, moved
or begun again orders nothing twice. A file that an order names counts by its content. Lines are read first and get
their keys later, for large files are hashed when all lines are right. Pure but for a look at the files.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from receiver.cli.batch.contents import PENDING, AttachedFile, Content, for_check
from receiver.cli.batch.rows import Common, Given, Wrong, rows
from receiver.cli.files import file_problem, problems_of
from receiver.cli.inputs import Reader, read_input
from receiver.cli.local_files import Places
from receiver.model.entries import NewTask
from receiver.model.errors import Refused
from receiver.model.records import Json, JsonObject, Kind
from receiver.model.templates import LoneBrace, fill
from receiver.orders.reading import order_digest, read_order
from receiver.runninghub import catalogue

ASIDE = "_"
"""How the name of a field begins that only templates use."""


class Draft(Struct, frozen=True, kw_only=True):
    """A line that is right, before the contents of the files it names are known. `places` writes into `input`."""

    number: int
    order: NewTask
    input: JsonObject
    places: Places


class Line(Struct, frozen=True, kw_only=True):
    """An order, the number of the line it came from, the key it is sent under, and the files that it names."""

    number: int
    key: str
    order: NewTask
    files: tuple[AttachedFile, ...] = ()


class BadLine(Struct, frozen=True, kw_only=True):
    number: int
    problems: list[tuple[str, str]]


class _AllWrong(Exception):
    """Everything that is wrong with one line."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("wrong")
        self.problems = problems


def read_drafts(content: bytes, common: Common, *, csv: bool) -> tuple[list[Draft], list[BadLine]]:
    """Every line that is right, and every line that is not. Relative paths of files begin at the working directory."""
    drafts: list[Draft] = []
    bad: list[BadLine] = []
    for number, given in rows(content, common, csv=csv):
        try:
            drafts.append(_draft(number, given(), common))
        except Wrong as wrong:
            bad.append(BadLine(number=number, problems=[(wrong.path, wrong.message)]))
        except _AllWrong as wrong:
            bad.append(BadLine(number=number, problems=wrong.problems))
        except (ValueError, OverflowError, RecursionError) as error:
            # A number, a depth or half a character that JSON cannot carry: what is sent must be what was meant.
            bad.append(BadLine(number=number, problems=[("", f"cannot be sent as JSON: {error}")]))
    return drafts, bad


def with_keys(
    drafts: Sequence[Draft], common: Common, contents: Mapping[Path, Content]
) -> tuple[list[Line], list[BadLine]]:
    """Every draft with its key, and those of whose files one could not be read. `contents` has all files by path."""
    lines: list[Line] = []
    bad: list[BadLine] = []
    seen: Counter[bytes] = Counter()
    for draft in drafts:
        files = []
        unread = []
        for spot, path in draft.places.files:
            content = contents[path]
            if content.problem is not None:
                unread.append((spot.name, f"{path}: {content.problem}"))
                continue
            spot.put(content.id)
            files.append(AttachedFile(place=spot.name, path=path, id=content.id, size=content.size))
        if unread:
            bad.append(BadLine(number=draft.number, problems=unread))
            continue
        draft.places.seal()
        order = _finished(draft)
        seen[order.digest] += 1
        key = _key(order, seen[order.digest], common)
        lines.append(Line(number=draft.number, key=key, order=order, files=tuple(files)))
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


def _draft(number: int, given: Given, common: Common) -> Draft:
    """Raises Wrong and _AllWrong."""
    document, input = _document(number, given, common)
    model = str(document.get("target", "")) if document.get("kind", Kind.MODEL) == Kind.MODEL else None
    places = Places(input, model)  # type: ignore[arg-type]
    found = [
        (each.spot.name, problem)
        for each in places.files
        if (problem := file_problem(each, common.checked)) is not None
    ]
    for each in places.files:
        each.spot.put(PENDING)
    places.seal()
    try:
        order = read_order({**document, "input": for_check(input)}, "", None).task
    except Refused as refused:
        raise _AllWrong([*found, *problems_of(refused)]) from None
    if found:
        raise _AllWrong(found)
    return Draft(number=number, order=order, input=input, places=places)


def _finished(draft: Draft) -> NewTask:
    """The order as it is sent, where uploads stand by their ids: what was checked has stand-ins for them."""
    order = draft.order
    digest = order_digest(order.kind, order.api, order.target, draft.input, order.labels)
    return msgspec.structs.replace(order, input=draft.input, digest=digest)


def _document(number: int, given: Given, common: Common) -> tuple[JsonObject, JsonObject]:
    """The order that a line is with its templates filled, and the input in it. Raises Wrong."""
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
    input: JsonObject = {**own, **_common_input(common, filling, types)}
    labels = {name: read(value, f"labels.{name}") for name, value in given.labels.items()}
    labels |= {name: filling(text, f"--label {name}") for name, text in common.labels.items()}
    if "batch" in labels:
        raise Wrong("labels.batch", "this label is the batch's own; --name sets it")
    document["labels"] = labels
    document["validate"] = common.checked
    return document, input


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
