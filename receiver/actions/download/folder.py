"""Files on disk: folders that lead nowhere else, and files that appear under their name only when they are whole.

Everything here blocks and is meant for a thread. What has its final name is complete, so a later try need not fetch it
again. How a file comes to it stands in `partial`.
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
    """A complete file; `twin` is the one it shares its bytes with, when it was found to be the same."""

    size: int
    sha256: str
    twin: Path | None = None


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


def linked(twins: Sequence[Path], link: Path, wanted: Kept) -> Path | None:
    """Make `link` another name of the first of the twins that holds the wanted bytes yet. None: there is none.

    It is linked before it is read: what was judged is what has the new name.
    """
    for twin in twins:
        try:
            link.unlink(missing_ok=True)
            os.link(twin, link, follow_symlinks=False)
            if kept(link) == wanted:
                return twin
        except OSError:
            pass  # it is gone, on another file system, or this one has no links: the bytes are here anyway
        link.unlink(missing_ok=True)
    return None


def inside(directory: str, paths: Sequence[str]) -> list[Path]:
    """Those of the paths that lead into `directory`, resolved."""
    root = Path(directory).resolve()
    found = [Path(path).parent.resolve() / Path(path).name for path in paths]
    return [path for path in found if path.is_relative_to(root)]


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
