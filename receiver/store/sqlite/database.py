"""Opens the database file: the lock that makes this process its one owner, the pragmas, the readers.

SQLite before 3.51.3 can corrupt a file when two connections checkpoint at the same instant. So one process owns the
file, one connection in it writes, and all others are opened `mode=ro`, which cannot checkpoint.
"""

import asyncio
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sqlite_utils import Database

from receiver.model import rules
from receiver.model.errors import DatabaseInUse, SettingsError, StoreUnavailable
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.engine import SqliteTransaction, storage_failure
from receiver.store.sqlite.migrations import migrations

T = TypeVar("T")

LOCK = ".lock"
LOCK_POLL = 0.1
READERS = 2
BUSY_TIMEOUT = 5.0
"""Seconds to wait while another program writes to the file."""
SHARED_LOCKS = (510, 0x40000002)
"""The bytes of the file, and where they begin, on which every open connection of SQLite holds a lock."""
OLDEST = (3, 39, 0)
"""Of SQLite: the first one that knows `is not distinct from`."""


class Lock:
    """The file beside the database that one process holds locked while it serves."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + LOCK)
        self._database = database
        self._descriptor: int | None = None

    async def acquire(self, patience: float, waiting: Callable[[str], None] = lambda why: None) -> None:
        """Waits up to `patience` seconds for the file; `waiting` is told why. Raises DatabaseInUse."""
        waited = 0.0
        while True:
            try:
                return self.seize()
            except DatabaseInUse as problem:
                if waited >= patience:
                    self.release()
                    raise
                if not waited:
                    waiting(f"{problem}; waiting up to {patience:g} s for it to end")
            await asyncio.sleep(LOCK_POLL)
            waited += LOCK_POLL

    def seize(self) -> None:
        """Locks the file. Raises DatabaseInUse."""
        # Somebody may have removed the lock file of a server that still runs.
        if not self.path.exists() and is_open_elsewhere(self._database):
            raise DatabaseInUse(f"another process has {self._database} open, and {self.path} is gone")
        if not self.take():
            raise DatabaseInUse(f"another process is serving this database ({self.path} is locked)")

    def take(self) -> bool:
        """Whether the lock is ours. When the file was lost it is made again, and locked if nobody else has done so."""
        if not self._is_in_place():
            self.release()
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        assert self._descriptor is not None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return self._is_in_place()

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _is_in_place(self) -> bool:
        return self._descriptor is not None and file_id(self.path) == file_id(self._descriptor)


def file_id(file: Path | int) -> tuple[int, int] | None:
    """What tells a file from every other one, whatever its name; None when there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_open_elsewhere(path: Path) -> bool:
    """Whether another process has the database open. Only for a process that has not: SQLite's locks would be lost."""
    if not path.exists():
        return False
    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, *SHARED_LOCKS)
    except (BlockingIOError, PermissionError):
        return True
    finally:
        os.close(descriptor)
    return False


def create_private(path: Path) -> None:
    """Makes an empty database file with mode 0600, before SQLite opens it; it holds secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def connect(path: Path, log_kept: int = rules.LOG_KEPT) -> sqlite3.Connection:
    """The read-write connection, migrated to the newest schema. Raises SettingsError when SQLite is too old."""
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise SettingsError([f"database: expected SQLite {needed} or newer, this Python has {sqlite3.sqlite_version}"])
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT, cached_statements=256)
    connection.row_factory = sqlite3.Row
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute(f"pragma journal_size_limit = {log_kept}")
    # A table that others refer to is made anew without its references being looked at.
    migrations.apply(Database(connection))
    connection.execute("pragma foreign_keys = on")
    return connection


def connect_read_only(path: Path, *, more: str = "") -> sqlite3.Connection:
    """A connection that cannot write, nor checkpoint. Raises sqlite3.OperationalError when there is no file."""
    uri = f"{path.resolve().as_uri()}?mode=ro{more}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


class Readers:
    """A few threads, each with a read-only connection of its own."""

    def __init__(self, path: Path, threads: int = READERS) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on a read-only view of one moment, in a thread; the rows must be fetched inside it."""

        def one_moment(connection: sqlite3.Connection) -> T:
            connection.execute("begin")
            try:
                return work(SqliteTransaction(connection))
            finally:
                if connection.in_transaction:
                    connection.execute("rollback")

        return await self.run_on_connection(one_moment)

    async def run_on_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same for what is SQLite's own affair. Both raise StoreUnavailable when the storage fails."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._attempt, work)

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._connection())
        except sqlite3.Error as error:
            reason = storage_failure(error)
            if reason is None:
                raise
            raise StoreUnavailable(reason, f"nothing can be read: {reason.replace('_', ' ')}") from error

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_read_only(self._path)
            self._local.connection = connection
            self._connections.append(connection)
        return connection
