"""The ledger behind its verbs. A verb is one atomic unit; SQL, rows and cursors never leave this folder."""

from pathlib import Path

from receiver.model.errors import SettingsError
from receiver.store.sqlite.store import SqliteStore
from receiver.store.verbs import Store

__all__ = ["Store", "database_path", "open_store"]

SQLITE_PREFIX = "sqlite:///"


def database_path(url: str) -> Path:
    """The file behind a database URL. Raises SettingsError for a kind that is not supported."""
    if url.startswith(SQLITE_PREFIX):
        return Path(url.removeprefix(SQLITE_PREFIX))
    raise SettingsError([f"database: expected {SQLITE_PREFIX}PATH"])


def open_store(url: str, *, disk_floor: int = 0) -> SqliteStore:
    """A store for a database URL, not yet opened."""
    return SqliteStore(database_path(url), disk_floor=disk_floor)
