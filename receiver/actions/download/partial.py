"""A file that is being fetched, and may be fetched in several goes.

Beside the place where `NAME` will be stand `.NAME.part`, its bytes so far, and `.NAME.part.json`, the note that says
whose they are: the link, the validator, the total, and how many bytes with which SHA-256 came from there. The note is
replaced as a whole, after the bytes it vouches for were written; when the file is opened again, exactly these bytes
are read and must have that digest. So whatever a crash leaves on the disk, bytes of two files are never joined: at
worst the note vouches for less than there is, or for nothing, and the file is begun anew.

Everything here blocks and is meant for a thread. The part is locked while somebody writes it, so that two attempts at
one action cannot mix their bytes.
"""

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import msgspec
from msgspec import Struct

from receiver.actions.download.content import HEAD
from receiver.actions.download.folder import CHUNK, Kept, kept, sync_folder
from receiver.actions.download.ranges import Origin
from receiver.model import rules

Room = Callable[[Path], int]
"""Bytes that files may still take on the disk of a folder."""
NO_ROOM = "No space left on device beside what is kept free, so that callbacks can be received; free disk space"
NOTE_EVERY = 1024 * 1024
"""Bytes after which the note is written again: what a killed process may have fetched in vain."""
PART, NOTE, NEW_NOTE = ".part", ".part.json", ".part.json.new"
LEFTOVERS = (NEW_NOTE, ".part.link", NOTE)
"""What may stand beside a part; older versions made links."""
LONGEST_NOTE = 65536


class Note(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first `size` bytes, whose digest is `sha256`, are the beginning of `origin`. `at`: when, in seconds."""

    origin: Origin
    size: int
    sha256: str
    at: float


@dataclass(eq=False)
class Part:
    """A file that is being written. Its methods may be called from any thread; once it is closed they do nothing.

    `now` is the time of the note, in seconds since 1970; `sync` makes the bytes of a descriptor durable.
    """

    path: Path
    _: KW_ONLY
    now: float = 0.0
    room: Room = lambda folder: free_room(folder)
    sync: Callable[[int], None] = os.fsync

    def __post_init__(self) -> None:
        self._part = beside(self.path, PART)
        self._lock = Lock()
        self._file: BinaryIO | None = None
        self._over = False
        self._digest = hashlib.sha256()
        self._noted = self.size = 0
        self.head = b""
        """The first bytes."""
        self.origin: Origin | None = None

    def open(self, link: str = "") -> None:
        """Take the part, with the bytes of `link` (ranges.link_identity) that are there and can be continued, if any.

        Afterwards `size` says how many, and `origin` of what. OSError EBUSY: another attempt is writing it.
        """
        with self._lock:
            if self._over:
                return
            if self._part.is_symlink():
                self._part.unlink()
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._file = os.fdopen(os.open(self._part, flags, 0o666), "r+b", buffering=0)
            if not _is_sole(self._file, self._part):
                self._close()
                raise OSError(errno.EBUSY, "another attempt is writing it")
            note = _read_note(self.path)
            vouched = note is not None and note.origin.link == link and self._vouched_for(self._file, note)
            if self._over:  # given up while it was read: nothing is known, so nothing is changed
                self._close()
            elif not vouched:
                self._empty(self._file)
                self._note(Origin(link=link, validator=None, total=None))  # marks the part as ours from the first

    def restart(self, origin: Origin) -> None:
        """Throw away what is there: the bytes of `origin` follow. ENOSPC when there is no room for them."""
        with self._lock:
            if not self._over and self._file is not None:
                noted = self._noted
                self._empty(self._file)
                self.origin = origin
                if noted:  # else the note vouches for nothing already
                    self._note(origin)
        self.reserve(origin.total)

    def reserve(self, total: int | None) -> None:
        """Refuse with ENOSPC unless there is room for what is missing to `total` bytes."""
        self._require_space((total or 0) - self.size)

    def write(self, data: bytes | bytearray) -> None:
        with self._lock:
            if self._over or self._file is None:
                return
            self._require_space(len(data))
            self._append(self._file, data)
            if self.origin is not None and self.size - self._noted >= NOTE_EVERY:
                self._note(self.origin)

    def finish(self) -> Kept:
        """Make the bytes durable and give them their name."""
        with self._lock:
            if self._over or self._file is None:
                raise OSError(errno.ECANCELED, "given up")
            if not _leads_to(self._part, self._file):
                raise OSError(errno.ESTALE, "what came was removed before it was whole")
            if (there := kept(self.path)) is not None:  # another attempt was quicker, and has told what it saved
                self._clear()
                return there
            self._make_durable(self._file)
            self._part.replace(self.path)
            self._clear()
            sync_folder(self.path.parent)
            return Kept(size=self.size, sha256=self._digest.hexdigest())

    def put_down(self, tail: bytes = b"") -> int:
        """Close it and leave what can be continued, `tail` written after it. Returns how many bytes that are.

        What cannot be continued is removed. Harmless after `finish`.
        """
        self._over = True  # before the lock is had, so that the reading of a large part ends at once
        with self._lock:
            if self._file is None:
                return 0
            with suppress(OSError):  # what the last note vouches for is enough
                if tail:
                    self._append(self._file, tail)
                if self.origin is not None and self.size > self._noted:
                    self._note(self.origin)
            lost = not _leads_to(self._part, self._file)
            if lost or self.origin is None or self.origin.validator is None or not self._noted:
                self._clear()
                return 0
            self._close()
            return self._noted

    def discard(self) -> None:
        """Leave nothing behind; harmless after `finish`."""
        self._over = True
        with self._lock:
            if self._file is not None:
                self._clear()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _clear(self) -> None:
        """The bytes go before the note, so that what a crash leaves is still known for what it is."""
        self._over = True
        try:
            # Once its part was renamed or removed, what has the part's name is another attempt's.
            if self._file is None or _leads_to(self._part, self._file) or not os.path.lexists(self._part):
                _remove(self.path, PART, *LEFTOVERS)
        finally:
            self._close()

    def _make_durable(self, file: BinaryIO) -> None:
        try:
            self.sync(file.fileno())
        except OSError:
            # The kernel forgets what it could not write, yet shows it to readers: the next attempt would believe in it.
            self._clear()
            raise

    def _empty(self, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate(0)
        self._digest = hashlib.sha256()
        self.origin = None
        self.size = self._noted = 0
        self.head = b""

    def _append(self, file: BinaryIO, data: bytes | bytearray) -> None:
        rest = memoryview(data)
        while rest:
            written = file.write(rest)
            self._digest.update(rest[:written])
            self.head += bytes(rest[: max(0, min(written, HEAD - self.size))])
            self.size += written
            rest = rest[written:]

    def _vouched_for(self, file: BinaryIO, note: Note) -> bool:
        """Whether the bytes that the note speaks of are there; then the file goes on after them."""
        if note.origin.validator is None or not 0 < note.size <= (note.origin.total or note.size):
            return False
        digest = hashlib.sha256()
        left = note.size
        while left and not self._over and (data := file.read(min(left, CHUNK))):
            digest.update(data)
            left -= len(data)
        if left or digest.hexdigest() != note.sha256:
            return False
        file.truncate(note.size)
        self._digest = digest
        self.head = os.pread(file.fileno(), min(HEAD, note.size), 0)
        self.origin = note.origin
        self.size = self._noted = note.size
        return True

    def _note(self, origin: Origin) -> None:
        note = Note(origin=origin, size=self.size, sha256=self._digest.hexdigest(), at=self.now)
        new = beside(self.path, NEW_NOTE)
        new.unlink(missing_ok=True)
        with new.open("xb") as file:
            file.write(msgspec.json.encode(note))
        new.replace(beside(self.path, NOTE))
        self._noted = self.size

    def _require_space(self, more: int) -> None:
        if self.room(self.path.parent) < more:
            raise OSError(errno.ENOSPC, NO_ROOM)


def free_room(folder: Path, ledger: Path | None = None, floor: int = 0) -> int:
    """What files may take of a folder's disk: on the disk of the `ledger` they stop long before the door's `floor`."""
    disk = shutil.disk_usage(folder)
    # By its size: one disk may have several device numbers.
    shared = ledger is not None and floor > 0 and shutil.disk_usage(ledger).total == disk.total
    return disk.free - (rules.FILES_FLOOR * floor if shared else rules.FILES_SPARE)


def beside(path: Path, end: str) -> Path:
    """The hidden file that belongs to a file."""
    return path.with_name(f".{path.name}{end}")


def _remove(path: Path, *ends: str) -> None:
    for end in ends:
        beside(path, end).unlink(missing_ok=True)


def tidy(path: Path) -> None:
    """Remove what attempts at a file left behind, unless somebody is writing it."""
    part = beside(path, PART)
    with suppress(OSError):
        descriptor = os.open(part, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            if not _is_sole(file, part):
                return
            part.unlink()
    if not os.path.lexists(part):
        _remove(path, *LEFTOVERS)


def tidy_stale(root: Path, depth: int, before: float) -> list[Path]:
    """Remove the parts that were last written before a time, up to `depth` folders below `root`; which files' they are.

    Only what has a note of ours beside it is touched.
    """
    removed = []
    for path in _noted_files(root, depth):
        note = _read_note(path)
        if note is not None and note.at < before:
            tidy(path)
            removed.append(path)
    return removed


def _noted_files(folder: Path, depth: int) -> Iterator[Path]:
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if depth and entry.is_dir(follow_symlinks=False):
                yield from _noted_files(folder / entry.name, depth - 1)
            elif entry.name.startswith(".") and entry.name[1 : -len(NOTE)].strip(".") and entry.name.endswith(NOTE):
                yield folder / entry.name[1 : -len(NOTE)]


def _read_note(path: Path) -> Note | None:
    try:
        descriptor = os.open(beside(path, NOTE), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            return msgspec.json.decode(file.read(LONGEST_NOTE), type=Note)
    except (OSError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _is_sole(file: BinaryIO, part: Path) -> bool:
    """Locks it. The lock counts only if the name still leads to the locked file: its last owner may have renamed it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _leads_to(part, file)


def _leads_to(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path, follow_symlinks=False))
    except OSError:
        return False
