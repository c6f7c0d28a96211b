"""Files on disk: a folder per task, and files that appear under their name only when they are whole.

Everything here blocks and is meant for a thread. A file is written beside its place, made durable, then renamed:
whatever has the final name is complete, so a later try need not fetch it again. The half-written file is locked while
somebody writes it, so that two tries of one action cannot mix their bytes.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from msgspec import Struct

SPARE = 64 * 1024 * 1024
CHUNK = 512 * 1024


class Outside(Exception):
    """The folder is a symbolic link that leads elsewhere."""


class Kept(Struct, frozen=True, kw_only=True):
    """A complete file."""

    size: int
    sha256: str


def open_folder(directory: str, name: str) -> Path:
    """The folder `name` inside `directory`, made when it is missing."""
    Path(directory).mkdir(parents=True, exist_ok=True)
    root = Path(directory).resolve()
    folder = root / name
    if folder.is_symlink():
        raise Outside(name)
    folder.mkdir(exist_ok=True)
    if folder.resolve() != folder:
        raise Outside(name)
    _sync(root)
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


class Part:
    """A file that is being written. Its methods may be called from any thread, and after `abandon` do nothing."""

    def __init__(self, path: Path, *, spare: int = SPARE) -> None:
        self._path = path
        self._part = path.with_name(f".{path.name}.part")
        self._spare = spare
        self._lock = Lock()
        self._file: BinaryIO | None = None
        self._over = False
        self._digest = hashlib.sha256()
        self.size = 0

    def open(self, length: int | None) -> None:
        """Start the file, unless the disk would not hold `length` bytes and a reserve."""
        with self._lock:
            if self._over:
                return
            self._require_space(length or 0)
            if self._part.is_symlink():
                self._part.unlink()
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._part, flags, 0o666), "wb", buffering=0)
            self._require_sole_writer(self._file)
            self._file.truncate(0)

    def write(self, data: bytes) -> None:
        with self._lock:
            if self._over or self._file is None:
                return
            self._require_space(len(data))
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
            self._digest.update(data)
            self.size += len(data)

    def finish(self) -> Kept:
        """Make the bytes durable and give them their name."""
        with self._lock:
            if self._over or self._file is None:
                raise OSError(errno.ECANCELED, "given up")
            os.fsync(self._file.fileno())
            self._part.replace(self._path)
            self._over = True
            self._file.close()
            _sync(self._path.parent)
            return Kept(size=self.size, sha256=self._digest.hexdigest())

    def abandon(self) -> None:
        """Leave nothing behind; harmless after `finish`."""
        with self._lock:
            if not self._over and self._file is not None:
                self._part.unlink(missing_ok=True)
                self._file.close()
            self._over = True

    def _require_space(self, more: int) -> None:
        if shutil.disk_usage(self._path.parent).free < more + self._spare:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _require_sole_writer(self, file: BinaryIO) -> None:
        """The lock counts only if the name still leads to the locked file: its last owner may have renamed it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            sole = os.path.samestat(os.fstat(file.fileno()), os.stat(self._part, follow_symlinks=False))
        except OSError:
            sole = False
        if not sole:
            file.close()
            self._file = None
            raise OSError(errno.EBUSY, "another try is writing it")


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
