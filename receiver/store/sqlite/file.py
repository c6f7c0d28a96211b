"""The database file itself: whether it is one that may be opened, and whether it is still the one that was."""

import os
import shutil
import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from sqlite_utils import Database

from receiver.model.errors import SettingsError
from receiver.store.sqlite.database import LOCK, Lock, connect_read_only, create_private, file_id
from receiver.store.sqlite.log import changes_nothing
from receiver.store.sqlite.migrations import migrations

WATCH_SPACING = 0.05
"""Seconds between two looks at the file: so rarely they cost nothing, and so often little is promised in vain."""
PRIVATE = 0o600
COMPANIONS = ("-wal", "-shm", "-journal")
"""What SQLite puts beside a database file, by the ends of their names."""
RESTORING = "-restoring"
"""The end of the name of the copy of a backup, before it takes the place of the database."""
REPLACED = ".replaced-"
"""How the ends of the names begin under which a database is kept that a backup has replaced, with all beside it."""
BACKING_UP = ".{}.backup-"
"""How the names of directories begin in which the database of a name is copied."""


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


def private_files(path: Path) -> list[Path]:
    """What is there of the files that hold secrets, or whatever else only the owner of a database may touch."""
    named = [path, *(beside(path, end) for end in (*COMPANIONS, RESTORING, LOCK))]
    named += sorted(path.parent.glob(f"{escape(path.name)}{REPLACED}*"))
    return [each for each in named if each.is_file() and not each.is_symlink()]


def open_to_others(path: Path) -> str | None:
    """The mode of a file that is not for its owner alone, as it is written; None for a private one."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return None if mode == PRIVATE else f"{mode:04o}"


class Watch:
    """Compares the files at the paths with those that were opened, now and again.

    `given` is the path by which the database was named, perhaps a link to `path`.
    """

    def __init__(self, given: Path, path: Path, lock: Lock, monotonic: Callable[[], float]) -> None:
        self._paths = {given: "database_gone", path: "database_gone", beside(path, "-wal"): "log_gone"}
        self._lock = lock
        self._monotonic = monotonic
        self._opened: dict[Path, tuple[int, int] | None] = {}
        self._looked_at = float("-inf")
        self._problem: str | None = None
        self._guard = threading.Lock()

    def begin(self) -> None:
        """Remembers the files that are there: they were opened just now."""
        self._opened = {path: file_id(path) for path in self._paths}

    def problem(self) -> str | None:
        """Why the file must not be written to now, as a reason code."""
        with self._guard:
            now = self._monotonic()
            if now - self._looked_at >= WATCH_SPACING:
                self._looked_at = now
                self._problem = self._look()
            return self._problem

    def _look(self) -> str | None:
        for path, opened in self._opened.items():
            if file_id(path) != opened:
                return self._paths[path]
        try:
            return None if self._lock.take() else "lock_gone"
        except OSError:
            return "lock_gone"


def refuse_place(path: Path) -> None:
    """Makes the directory of a database. Raises SettingsError when SQLite could not work there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise _unfit(f"{path} is a directory: name a file in it")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise _unfit(f"the directory {path.parent} cannot be written, and SQLite keeps its log beside the file")


def make_ready(path: Path) -> None:
    """Leaves a private file that is ours, or empty; the caller holds its lock. Raises SettingsError with the remedy."""
    if path.exists() and path.stat().st_nlink > 1:
        raise _unfit(f"{path} has a second name (a hard link), and each would have a log of its own: remove one")
    if beside(path, RESTORING).exists() and not path.exists():
        raise _unfit(f"putting a backup in the place of {path} was cut off: `receiver restore` again")
    beside(path, RESTORING).unlink(missing_ok=True)
    for left in path.parent.glob(BACKING_UP.format(escape(path.name)) + "*"):
        shutil.rmtree(left, ignore_errors=True)
    # Before all else: SQLite throws the log of an empty file away, and changed modes make a file look younger.
    if has_log(path):
        _refuse_strange_log(path, beside(path, "-wal"))
    create_private(path)
    _refuse_foreign(path)
    for each in private_files(path):
        _make_private(each)


def _unfit(problem: str) -> SettingsError:
    return SettingsError([f"database: {problem}"])


@contextmanager
def look_inside(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that only reads a file that nobody serves, and leaves nothing beside it where that can be."""
    connection = connect_read_only(path, more="" if has_log(path) else "&immutable=1")
    try:
        yield connection
    finally:
        connection.close()


def has_log(path: Path) -> bool:
    """Whether anything is in the log beside a file."""
    log = beside(path, "-wal")
    return log.exists() and log.stat().st_size > 0


def fault(path: Path) -> str | None:
    """The first fault that SQLite's quick check finds; None for a sound file."""
    with look_inside(path) as connection:
        try:
            found: str = connection.execute("pragma quick_check(1)").fetchone()[0]
        except sqlite3.DatabaseError as error:
            return str(error)
    return None if found == "ok" else found


def _refuse_foreign(path: Path) -> None:
    with look_inside(path) as connection:
        database = Database(connection)
        tables = set(database.table_names()) - {migrations.migrations_table}
        if tables and not migrations.applied(database):
            raise _unfit(f"{path} belongs to another program: it has tables ({len(tables)}), and none is ours")


def _refuse_strange_log(path: Path, log: Path) -> None:
    """SQLite would replay a log into whatever file stands beside it, also into a backup that was copied there."""
    if not path.exists() or path.stat().st_size == 0:
        raise _unfit(f"{log} is there without its database: put {path} back, or move the log away")
    with path.open("rb") as file:
        is_backup = file.read(19)[18:] == b"\x01"  # served files are in WAL mode, backups are not
    is_younger = path.stat().st_ctime_ns >= log.stat().st_ctime_ns
    if is_backup or (is_younger and not changes_nothing(path, log) and fault(path)):
        remedy = "`receiver restore BACKUP` puts it in place and keeps both; or move the log away"
        raise _unfit(f"{log} is not the log of {path}, as when a backup is copied over a database: {remedy}")


def _make_private(path: Path) -> None:
    with suppress(OSError):
        if open_to_others(path):
            path.chmod(PRIVATE)
    if mode := open_to_others(path):
        raise _unfit(f"{path} has the mode {mode} and holds secrets: as its owner, `chmod 600 {path}`")
