"""Files that the lines of a batch name: each is known by its content, as the server will know it."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from msgspec import Struct

from receiver.cli.local_files import GRAPH
from receiver.model.records import Json, JsonObject
from receiver.orders.upload import ID_DIGITS, ID_PREFIX

CHUNK = 1024 * 1024
PENDING = ID_PREFIX + "0" * ID_DIGITS
"""Stands for a file whose content is not known yet."""
ID = re.compile(rf"{ID_PREFIX}[0-9a-f]{{{ID_DIGITS}}}")
IN_GRAPH = re.compile(rf'"({ID.pattern})"')
STAND_IN = "asset://" + "0" * (ID_DIGITS - 1)
"""What passes wherever a file may stand, and is as long as an upload's id."""


class Content(Struct, frozen=True, kw_only=True):
    """What a file holds: the id its upload will have, and its bytes; or the problem with reading it."""

    id: str = ""
    size: int = 0
    problem: str | None = None


class AttachedFile(Struct, frozen=True, kw_only=True):
    """A file that an order names at `place`. `id` is its upload's, `size` in bytes."""

    place: str
    path: Path
    id: str
    size: int


def for_check(input: JsonObject) -> JsonObject:
    """A copy with stand-ins where ids of uploads stand: whether they are there yet is the server's to judge."""

    def copied(value: Json) -> Json:
        match value:
            case str():
                return STAND_IN if ID.fullmatch(value) else value
            case list():
                return [copied(item) for item in value]
            case dict():
                return {name: copied(item) for name, item in value.items()}
        return value

    copy = {name: copied(value) for name, value in input.items()}
    graph = copy.get(GRAPH)
    if isinstance(graph, str):
        copy[GRAPH] = IN_GRAPH.sub(f'"{STAND_IN}"', graph)
    return copy


def contents(paths: Iterable[Path], tell: Callable[[int, int | None], None]) -> dict[Path, Content]:
    """What the files hold; a file of several names is read once. `tell` hears of the bytes read so far, and of all."""
    identities = {path: _identity(path) for path in dict.fromkeys(paths)}
    total = sum({identity: identity[-1] for identity in identities.values() if identity is not None}.values())
    read: dict[tuple[int, int, int], Content] = {}
    found: dict[Path, Content] = {}
    done = 0
    for path, identity in identities.items():
        if identity is None:
            found[path] = Content(problem="cannot be read any more")
            continue
        if identity not in read:
            read[identity] = _content(path, partial(_tell, tell, done, total))
            done += identity[-1]
        found[path] = read[identity]
    return found


def _tell(tell: Callable[[int, int | None], None], before: int, total: int, size: int) -> None:
    tell(before + size, total)


def _identity(path: Path) -> tuple[int, int, int] | None:
    """What makes two paths one file; its bytes come last."""
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_dev, known.st_ino, known.st_size


def _content(path: Path, tell: Callable[[int], None]) -> Content:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
                size += len(chunk)
                tell(size)
    except OSError as error:
        return Content(problem=os.strerror(error.errno) if error.errno else "cannot be read")
    if size == 0:
        return Content(problem="is empty")
    return Content(id=ID_PREFIX + digest.hexdigest()[:ID_DIGITS], size=size)
