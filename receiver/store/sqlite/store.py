"""The ledger in one SQLite file: opening and closing, health and backup."""

import asyncio
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TypeVar

from receiver.model import rules
from receiver.model.entries import Storing
from receiver.model.errors import StoreUnavailable
from receiver.store.grouped import GroupedStore
from receiver.store.ledger.transaction import Transaction
from receiver.store.sqlite.copies import back_up
from receiver.store.sqlite.database import Lock, Readers, connect
from receiver.store.sqlite.engine import SqliteEngine
from receiver.store.sqlite.file import Watch, make_ready, refuse_place

T = TypeVar("T")

ROOM_CHECK_SPACING = 1.0
LOCK_PATIENCE = 30.0


class SqliteStore(GroupedStore):
    """The ledger in one file. `disk_floor` is the free space in bytes below which nothing new is accepted.

    `log_kept` is how long SQLite's log beside the file may grow before reads are waited for, in bytes.
    """

    def __init__(
        self,
        path: Path,
        *,
        disk_floor: int = 0,
        log_kept: int = rules.LOG_KEPT,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path.resolve()
        self._disk_floor = disk_floor
        self._monotonic = monotonic
        self._lock = Lock(self.path)
        self._watch = Watch(path.absolute(), self.path, self._lock, monotonic)
        self._log_kept = log_kept
        super().__init__(SqliteEngine(self._connect, self._watch.problem, log_kept), monotonic)
        self._readers = Readers(self.path)
        self._copier = Readers(self.path, 1)
        self._room_checked_at = float("-inf")
        self._has_room = True

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._readers.run(work)

    async def open(self, patience: float = LOCK_PATIENCE, waiting: Callable[[str], None] = lambda why: None) -> None:
        """Locks the file, waiting up to `patience` seconds, and brings its schema up to date. `waiting` is told why.

        Raises DatabaseInUse, SettingsError for a file that must not be opened, sqlite3.Error for what is no database.
        """
        refuse_place(self.path)
        await self._lock.acquire(patience, waiting)
        try:
            await asyncio.to_thread(make_ready, self.path)
            await self._writer.open()
        except BaseException:
            self._lock.release()
            raise

    async def close(self) -> None:
        """Commits what waits and gives the file free."""
        # The writer's connection goes last: the last one to go folds the WAL into the file, and readers cannot.
        self._readers.close()
        self._copier.close()
        await self._writer.close()
        self._lock.release()

    def storing(self) -> Storing:
        # Asked about by name: a file that is opened and closed here would lose SQLite its locks.
        files = (self.path, self.path.with_name(f"{self.path.name}-wal"))
        size = sum(file.stat().st_size for file in files if file.exists())
        return self._storing(f"SQLite {sqlite3.sqlite_version}", size)

    def problem(self) -> str | None:
        if not self._writer.alive:
            return "writer_dead"
        problem = self._writer.broken or self._watch.problem()
        return problem or (None if self._room() else "disk_low")

    async def backup(self) -> IO[bytes]:
        return await self._copier.run_on_connection(lambda source: back_up(source, self.path, self._disk_floor))

    def refuse_without_room(self) -> None:
        if not self._room():
            raise StoreUnavailable("disk_low", "the disk is below its floor of free space", retry_after=60)

    def _connect(self) -> sqlite3.Connection:
        connection = connect(self.path, self._log_kept)
        self._watch.begin()
        return connection

    def _room(self) -> bool:
        now = self._monotonic()
        if now - self._room_checked_at >= ROOM_CHECK_SPACING:
            self._room_checked_at = now
            self._has_room = shutil.disk_usage(self.path.parent).free >= self._disk_floor
        return self._has_room
