"""Files on disk: folders that lead nowhere else, and files that appear under their name only when they are whole.

Everything here blocks and is meant for a thread. What has its final name is complete, so a later attempt need not fetch
it again. How a file comes to it stands in `partial`.
"""

import hashlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

CHUNK = 512 * 1024


class Outside(Exception):
    """The folder is a symbolic link that leads elsewhere."""


class Kept(Struct, frozen=True, kw_only=True):
    """A complete file, its size in bytes."""

    size: int
    sha256: str


def open_folder(directory: str, names: Sequence[str]) -> Path:
    """The folder that `names` lead to inside `directory`, made when it is missing. Raises Outside, OSError."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    folder = Path(directory).resolve()
    for name in names:
        inner = folder / name
        if inner.is_symlink():
            raise Outside(name)
        inner.mkdir(exist_ok=True)
        if inner.resolve() != inner:
            raise Outside(name)
        sync_folder(folder)
        folder = inner
    return folder


def kept(path: Path) -> Kept | None:
    """What is kept under this name; None when there is nothing, or no plain file."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        with path.open("rb", buffering=0) as file:
            digest = hashlib.file_digest(file, "sha256")
            return Kept(size=file.tell(), sha256=digest.hexdigest())
    except FileNotFoundError:
        return None


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
