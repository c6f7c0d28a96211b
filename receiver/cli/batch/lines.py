"""The file of a batch, read: each line becomes an order with a key of its own, or a problem.

The key is made of the order alone and of how many equal ones stand above it, so that a file that was edited, moved
or begun again orders nothing twice. A file that an order names counts by its content. Lines are read first and get
their keys later, for large files are hashed when all lines are right. Pure but for a look at the files.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from receiver.cli.batch.contents import AttachedFile, Content
from receiver.cli.batch.rows import Common, Given, csv_lines, json_lines
from receiver.cli.inputs import Reader, read_input
from receiver.cli.local_files import Limits, LocalOrder, as_texts, types_of
from receiver.cli.outcome import problems_of
from receiver.model import templates
from receiver.model.entries import NewTask
from receiver.model.errors import Refused, invalid
from receiver.model.records import Json, JsonObject, Kind
from receiver.orders.reading import order_digest
from receiver.orders.references import with_texts

ASIDE = "_"
"""How the name of a field begins that only templates use."""


class Draft(Struct, frozen=True, kw_only=True):
    """A line that is right, as it is written and as it was judged, before the contents of its files are known."""

    number: int
    written: LocalOrder
    judged: NewTask


class BatchLine(Struct, frozen=True, kw_only=True):
    """An order, the number of the line it came from, the key it is sent under, and the files that it names."""

    number: int
    key: str
    order: NewTask
    files: tuple[AttachedFile, ...] = ()


class BadLine(Struct, frozen=True, kw_only=True):
    """A line that cannot be an order, and everything that is wrong with it: a path in the order, and a sentence."""

    number: int
    problems: list[tuple[str, str]]


def read_drafts(content: bytes, common: Common, *, csv: bool) -> tuple[list[Draft], list[BadLine]]:
    """Every line that is right, and every line that is not. Relative paths of files begin at the working directory."""
    drafts: list[Draft] = []
    bad: list[BadLine] = []
    for number, given in csv_lines(content) if csv else json_lines(content, common):
        try:
            written = _order(number, given(), common)
            drafts.append(Draft(number=number, written=written, judged=written.judged()))
        except Refused as refused:
            bad.append(BadLine(number=number, problems=problems_of(refused)))
        except (ValueError, OverflowError, RecursionError) as error:
            # A number, a depth or half a character that JSON cannot carry: what is sent must be what was meant.
            bad.append(BadLine(number=number, problems=[("", f"cannot be sent as JSON: {error}")]))
    return drafts, bad


def with_keys(
    drafts: Sequence[Draft], common: Common, contents: Mapping[Path, Content]
) -> tuple[list[BatchLine], list[BadLine]]:
    """Every draft with its key, and those of whose files one could not be read. `contents` has all files by path."""
    lines: list[BatchLine] = []
    bad: list[BadLine] = []
    seen: Counter[bytes] = Counter()
    for draft in drafts:
        named = [(spot.path, path, contents[path]) for spot, path in draft.written.files]
        unread = [(place, f"{path}: {content.problem}") for place, path, content in named if content.problem]
        if unread:
            bad.append(BadLine(number=draft.number, problems=unread))
            continue
        order = _with_ids(draft, {path: content.id for _, path, content in named})
        files = [AttachedFile(place=place, path=path, id=each.id, size=each.size) for place, path, each in named]
        seen[order.digest] += 1
        key = f"batch-{f'{common.anew}-' if common.anew else ''}{order.digest.hex()}-{seen[order.digest]}"
        lines.append(BatchLine(number=draft.number, key=key, order=order, files=tuple(files)))
    return lines, bad


def filled(text: str, fields: Mapping[str, Json], path: str = "") -> str:
    """A template with its `{places}` filled; `{{` and `}}` are braces. Raises Refused. `path` is where it stands."""

    def value_of(name: str) -> str:
        if name not in fields:
            there = ", ".join(f"{{{each}}}" for each in list(fields)[:20])
            raise invalid(path, f"there is no {{{name[:80]}}} in this line; there are {there}; write {{{{ for a brace")
        value = fields[name]
        if isinstance(value, dict | list) or value is None:
            raise invalid(path, f"{{{name}}} is no text in this line")
        return value if isinstance(value, str) else msgspec.json.encode(value).decode()

    try:
        return templates.fill(text, value_of)
    except templates.LoneBrace as error:
        raise invalid(path, f"{error}, or give --literal") from None


def _with_ids(draft: Draft, ids: Mapping[Path, str]) -> NewTask:
    """The order as it is sent, where uploads stand by their ids."""
    order, input = draft.judged, draft.written.with_ids(ids)
    digest = order_digest(order.kind, order.api, order.target, input, order.labels)
    return msgspec.structs.replace(order, input=input, digest=digest)


def _order(number: int, given: Given, common: Common) -> LocalOrder:
    """The order that a line is, with its templates filled. Raises Refused."""
    fields = {**given.fields, "line": number}

    def fill(path: str, text: str) -> str:
        return filled(text, fields, path)

    def read(path: str, value: Json) -> Json:
        return value if common.literal else with_texts(value, fill, path)

    rest: JsonObject = {name: read(name, value) for name, value in given.rest.items()}
    if common.model is not None:
        rest.setdefault("target", common.model)
    own = {name: read(name, value) for name, value in given.input.items() if not name.startswith(ASIDE)}
    types = types_of(str(rest.get("kind", Kind.MODEL)), str(rest.get("target")))
    if given.texts:
        own = _read_pairs([f"{name}={cell}" for name, cell in own.items()], types, "")
    if common.literal:
        own = as_texts(own, rest)
    labels = {name: read(f"labels.{name}", value) for name, value in given.labels.items()}
    labels |= {name: fill(f"--label {name}", text) for name, text in common.labels.items()}
    if "batch" in labels:
        raise invalid("labels.batch", "this label is the batch's own; --name sets it")
    rest |= {"labels": labels, "validate": common.checked}
    # Nothing counts as typed, not even what --set gives: its templates are filled with what stands in the file.
    return LocalOrder({**own, **_common_input(common, fill, types)}, rest, Limits(common.folders, typed={}))


def _common_input(common: Common, fill: Callable[[str, str], str], types: Reader | None) -> JsonObject:
    parts = (pair.partition("=") for pair in common.pairs)
    pairs = [f"{name}{separator}{fill(f'--set {name}', template)}" for name, separator, template in parts]
    return _read_pairs(pairs, types, "--set")


def _read_pairs(pairs: list[str], types: Reader | None, path: str) -> JsonObject:
    try:
        return read_input(None, None, pairs, types)
    except click.UsageError as error:
        raise invalid(path, error.message) from None
