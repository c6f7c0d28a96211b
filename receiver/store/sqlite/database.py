"""Opens the database file: the lock that makes this process its one owner, the pragmas, the readers, the backup.

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

from receiver.model.errors import Failed, SettingsError
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.engine import SqliteTransaction
from receiver.store.sqlite.migrations import migrations

T = TypeVar("T")

LOCK_POLL = 0.1
READERS = 2
BUSY_TIMEOUT = 30.0
OLDEST = (3, 39, 0)
"""Of SQLite: the first one that knows `is not distinct from`."""


class DatabaseInUse(Failed):
    """Another process owns the file."""


class Lock:
    """The file beside the database that one process holds locked while it serves."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + ".lock")
        self._descriptor: int | None = None

    async def acquire(self, patience: float) -> None:
        """Waits up to `patience` seconds for the file. Raises DatabaseInUse."""
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        waited = 0.0
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waited >= patience:
                    os.close(descriptor)
                    raise DatabaseInUse(f"another process is serving this database ({self.path} is locked)") from None
                await asyncio.sleep(LOCK_POLL)
                waited += LOCK_POLL
            else:
                self._descriptor = descriptor
                return

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def create_private(path: Path) -> None:
    """Makes an empty database file with mode 0600, before SQLite opens it; it holds secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))


def connect(path: Path) -> sqlite3.Connection:
    """The read-write connection, migrated to the newest schema. Raises SettingsError when SQLite is too old."""
    if sqlite3.sqlite_version_info < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise SettingsError([f"database: expected SQLite {needed} or newer, this Python has {sqlite3.sqlite_version}"])
    connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT, cached_statements=256)
    connection.row_factory = sqlite3.Row
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("pragma journal_size_limit = 67108864")
    # A table that others refer to is made anew without its references being looked at.
    migrations.apply(Database(connection))
    connection.execute("pragma foreign_keys = on")
    return connection


def connect_read_only(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, nor checkpoint. Raises sqlite3.OperationalError when there is no file."""
    uri = f"{path.resolve().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=BUSY_TIMEOUT, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    return connection


class Readers:
    """A few threads, each with a read-only connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on a read-only view of one moment, in a thread; the rows must be fetched inside it."""

        def one_moment(connection: sqlite3.Connection) -> T:
            connection.execute("begin")
            try:
                return work(SqliteTransaction(connection))
            finally:
                connection.execute("rollback")

        return await self.run_on_connection(one_moment)

    async def run_on_connection(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """The same for what is SQLite's own affair."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: work(self._connection()))

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect_read_only(self._path)
            self._local.connection = connection
            self._connections.append(connection)
        return connection


def back_up(connection: sqlite3.Connection, target: Path) -> None:
    """Copies the database to a new file in one step; smaller steps never finish under load (measured)."""
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with sqlite3.connect(target) as copy:
        connection.backup(copy, pages=-1)
    copy.close()
