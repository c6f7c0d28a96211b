"""Local files in an order: `@path` where a file may be named; `@@text` is the text `@text`."""

import os
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from receiver.cli.inputs import Reader, untyped
from receiver.cli.outcome import problems_of
from receiver.model.entries import NewTask
from receiver.model.errors import Refused, problems
from receiver.model.records import Json, JsonObject, Kind
from receiver.model.rules import UPLOAD_LIMITS
from receiver.orders.reading import read_order
from receiver.orders.references import PENDING, Spot, changed, spots
from receiver.orders.signatures import HEAD, content_problem
from receiver.runninghub import catalogue, validation
from receiver.runninghub.bodies import is_text

SIGN = "@"


class LocalFile(NamedTuple):
    """A file of this machine, and where an order names it."""

    spot: Spot
    path: Path


class Limits(NamedTuple):
    """The folders below which an order's files must be, but for those that are named in what was `typed` here.

    Somebody else may have written the rest, and would else have any file of this machine uploaded.
    """

    folders: Sequence[Path]
    typed: JsonObject


class LocalOrder:
    """An order as it is written here: `input` may name local `files`, `rest` is all that it has beside its input."""

    def __init__(self, input: JsonObject, rest: JsonObject, limits: Limits | None = None) -> None:
        kind, target = rest.get("kind", Kind.MODEL), rest.get("target")
        self.input = input
        self.rest = rest
        self._kind = Kind(str(kind)) if kind in list(Kind) else Kind.MODEL
        self._model = known_model(str(target)) if self._kind is Kind.MODEL else None
        self.files = self._files_in(input)
        self._folders = limits.folders if limits else None
        self._typed = {file.path for file in self._files_in(limits.typed)} if limits else set()

    def with_ids(self, ids: Mapping[Path, str]) -> JsonObject:
        """The input as the server takes it, with the ids of uploads in the places of files."""

        def sent(spot: Spot) -> str:
            path = _named_path(spot.text)
            if path is not None:
                return ids[path]
            return spot.text[1:] if spot.text.startswith(SIGN * 2) else spot.text

        return changed(self._kind, self._model, self.input, sent)

    def judged(self) -> NewTask:
        """The order, judged as the server will do. Raises Refused with all that is wrong with it and its files."""
        found = [(file.spot.path, told) for file in self.files if (told := self._problem(file)) is not None]
        pending = self.with_ids({file.path: PENDING for file in self.files})
        try:
            order = read_order({**self.rest, "input": pending}, "", None).task
        except Refused as refused:
            found += problems_of(refused)
        if found:
            raise problems(found)
        return order

    def _problem(self, file: LocalFile) -> str | None:
        is_free = self._folders is None or file.path in self._typed
        problem = None if is_free else outside(file.path, self._folders or ())
        return problem or _file_problem(file, self.rest.get("validate") is not False)

    def _files_in(self, input: JsonObject) -> list[LocalFile]:
        found = spots(self._kind, self._model, input)
        return [LocalFile(spot, path) for spot in found if (path := _named_path(spot.text)) is not None]


def as_texts(input: JsonObject, rest: JsonObject) -> JsonObject:
    """The same input, written so that nothing in it names a file of this machine."""
    kind, target = rest.get("kind", Kind.MODEL), rest.get("target")
    if kind not in list(Kind):
        return input
    model = known_model(str(target)) if kind == Kind.MODEL else None
    return changed(Kind(str(kind)), model, input, lambda spot: SIGN * spot.text.startswith(SIGN) + spot.text)


def outside(path: Path, folders: Sequence[Path]) -> str | None:
    """Why a file may not be read for somebody else: it is really outside the folders, or hidden; None when it may."""
    try:
        real = path.resolve()
    except (OSError, ValueError, RuntimeError):
        return None  # it is no file, which is told as such
    below = [real.relative_to(each.resolve()).parts for each in folders if real.is_relative_to(each.resolve())]
    if any(not any(part.startswith(".") for part in parts) for parts in below):
        return None
    where = "is hidden below" if below else "is not below"
    named = " or ".join(map(str, folders))
    return f"{path} {where} {named}: a file of orders may not name it, unless --files-from DIR says so"


def known_model(name: str) -> catalogue.Model | None:
    """The catalogue's model of this name; None when there is none."""
    try:
        return catalogue.find(name).model
    except catalogue.UnknownModel:
        return None


@cache
def types_of(kind: str, target: str) -> Reader | None:
    """How the texts of an order's inputs are read; None when nothing is known of them."""
    if kind == Kind.MODEL:
        known = known_model(target)
        return partial(catalogue.coerce, known) if known is not None else None
    return partial(_read, Kind(kind)) if kind in list(Kind) else None


def _read(kind: Kind, name: str, text: str | Sequence[str]) -> Json:
    """JSON where it is JSON, but the text itself where a text is expected: 1 may be a code, and 1234 a password."""
    value = untyped(name, text)
    return text if isinstance(text, str) and not isinstance(value, str) and is_text(kind, name) else value


def unsendable(path: Path, purpose: str = "file", name: str | None = None) -> str | None:
    """Why a file cannot be uploaded at all, under its own name or another."""
    try:
        if not path.is_file():
            return "is no file" if path.exists() else "there is no such file"
        with path.open("rb") as file:
            head, size = file.read(HEAD), path.stat().st_size
    except OSError as error:
        return error.strerror or "cannot be read"
    except ValueError:
        return "there is no such file"
    if size == 0:
        return "is empty"
    limit = UPLOAD_LIMITS[purpose]
    if size > limit:
        return f"is larger than {limit // 2**20} MiB"
    return content_problem(name or path.name, head, size, purpose)


def _file_problem(file: LocalFile, checked: bool) -> str | None:
    """Why a file cannot stand where it is named, or None; if `checked`, also by what the catalogue knows of it."""
    spot, path = file
    problem = unsendable(path)
    if problem is not None:
        where = "" if path.is_absolute() else f" (looked for in {os.getcwd()})"
        return f"{path}: {problem}{where}; for the text itself write @@"
    if spot.param is not None and checked:
        problem = validation.file_problem(spot.param, path.name, path.stat().st_size)
    return f"{problem} ({path})" if problem else None


def _named_path(text: str) -> Path | None:
    """The file that a text names; None when it is a text like any other."""
    if not text.startswith(SIGN) or text == SIGN or text.startswith(SIGN * 2):
        return None
    try:
        return Path(text[1:]).expanduser()
    except RuntimeError:
        return Path(text[1:])
