"""The SQLite store as a whole: all the verbs, opening and closing, health, secrets and backup."""

import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from receiver.model.errors import StoreUnavailable
from receiver.store.ledger.actions import Actions
from receiver.store.ledger.alerts import Alerts
from receiver.store.ledger.checks import Checks
from receiver.store.ledger.definitions import Definitions
from receiver.store.ledger.deliveries import Deliveries
from receiver.store.ledger.events import Events
from receiver.store.ledger.files import Files
from receiver.store.ledger.replays import Replays
from receiver.store.ledger.rereading import Rereading
from receiver.store.ledger.tasks import Tasks
from receiver.store.ledger.uploads import Uploads
from receiver.store.sqlite.database import Lock, Readers, back_up, connect, create_private
from receiver.store.writer import Writer

ROOM_CHECK_SPACING = 1.0
LOCK_PATIENCE = 30.0


class SqliteStore(Tasks, Deliveries, Events, Actions, Definitions, Replays, Rereading, Checks, Alerts, Uploads, Files):
    """The ledger in one file. `disk_floor` is the free space in bytes below which nothing new is accepted."""

    def __init__(self, path: Path, *, disk_floor: int = 0, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._disk_floor = disk_floor
        self._monotonic = monotonic
        self._lock = Lock(path)
        self._writer = Writer(lambda: connect(path), monotonic=monotonic)
        self._readers = Readers(path)
        self._room_checked_at = float("-inf")
        self._has_room = True

    async def open(self, patience: float = LOCK_PATIENCE) -> None:
        """Locks the file, waiting up to `patience` seconds, and brings its schema up to date.

        Raises DatabaseInUse, and sqlite3.Error for a file that is no database.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        await self._lock.acquire(patience)
        try:
            create_private(self.path)
            await self._writer.open()
        except BaseException:
            self._lock.release()
            raise

    async def close(self) -> None:
        """Commits what waits and gives the file free."""
        # The writer's connection goes last: the last one to go folds the WAL into the file, and readers cannot.
        self._readers.close()
        await self._writer.close()
        self._lock.release()

    def problem(self) -> str | None:
        """Why new things cannot be stored now, as a reason code; None when they can."""
        if not self._writer.alive:
            return "writer_dead"
        if self._writer.broken:
            return self._writer.broken
        return None if self._room() else "disk_low"

    async def probe(self) -> None:
        """Tries to write, so that a storage that failed is noticed to be well again. Raises StoreUnavailable."""
        await self._write(lambda _: None)

    async def secret(self, name: str, *, length: int = 32) -> str:
        """A secret of the database's own, made when it is first asked for. `length` in random bytes."""

        def work(connection: sqlite3.Connection) -> str:
            connection.execute(
                "insert into secrets (name, value) values (?, ?) on conflict (name) do nothing",
                (name, secrets.token_urlsafe(length)),
            )
            value: str = connection.execute("select value from secrets where name = ?", (name,)).fetchone()[0]
            return value

        return await self._write(work)

    async def backup(self, target: Path) -> None:
        """Copies the whole database to a new file. Raises FileExistsError."""
        await self._read(lambda connection: back_up(connection, target))

    def _refuse_without_room(self) -> None:
        if not self._room():
            raise StoreUnavailable("disk_low", "the disk is below its floor of free space", retry_after=60)

    def _room(self) -> bool:
        now = self._monotonic()
        if now - self._room_checked_at >= ROOM_CHECK_SPACING:
            self._room_checked_at = now
            self._has_room = shutil.disk_usage(self.path.parent).free >= self._disk_floor
        return self._has_room
