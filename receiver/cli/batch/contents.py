"""Files that the lines of a batch name: each is known by its content, as the server will know it."""

import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from msgspec import Struct

from receiver.orders.references import upload_id


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


def contents(paths: Iterable[Path], tell: Callable[[int, int | None], None]) -> dict[Path, Content]:
    """What the files hold; a file of several names is read once. `tell` hears how many were read, and of how many."""
    real = {path: os.path.realpath(path) for path in paths}
    total = len({*real.values()})
    found: dict[str, Content] = {}
    for place in real.values():
        if place not in found:
            found[place] = _content(place)
            tell(len(found), total)
    return {path: found[place] for path, place in real.items()}


def _content(path: str) -> Content:
    try:
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
    except OSError as error:
        return Content(problem=error.strerror or "cannot be read")
    return Content(id=upload_id(digest), size=size) if size else Content(problem="is empty")
