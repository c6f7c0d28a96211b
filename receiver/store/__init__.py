"""The ledger behind its verbs. A verb is one atomic unit; SQL, rows and cursors never leave this folder."""

from pathlib import Path

from receiver.model.errors import SettingsError
from receiver.store.sqlite.store import SqliteStore
from receiver.store.verbs import Store

__all__ = ["Store", "database_path", "is_server", "local_place", "open_store"]

SQLITE_PREFIX = "sqlite:///"
POSTGRES_PREFIXES = ("postgresql://", "postgres://")
INSTALL = "database: PostgreSQL needs psycopg, which is not installed: `pip install 'receiver[postgres]'`"
NO_FILE = Path("receiver")
"""What stands for the database file, in the working directory, where the database is no file."""


def is_server(url: str) -> bool:
    """Whether the database is on a server of its own, and no file of this machine."""
    return url.startswith(POSTGRES_PREFIXES)


def database_path(url: str) -> Path:
    """The file behind a database URL. Raises SettingsError for a database that is no file."""
    if url.startswith(SQLITE_PREFIX):
        return Path(url.removeprefix(SQLITE_PREFIX))
    raise SettingsError([f"database: expected {SQLITE_PREFIX}PATH, for this works on a file"])


def local_place(url: str) -> Path:
    """Beside what a server leaves its address, and keeps files that are in hand."""
    return NO_FILE if is_server(url) else database_path(url)


def open_store(url: str, *, disk_floor: int = 0) -> Store:
    """A store for a database URL, not yet opened. Raises SettingsError when the program lacks what it needs for it."""
    if not is_server(url):
        return SqliteStore(database_path(url), disk_floor=disk_floor)
    try:
        from receiver.store.postgres.store import PostgresStore
    except ImportError as error:
        raise SettingsError([INSTALL]) from error
    return PostgresStore(url)
