"""The ledger behind its verbs. A verb is one atomic unit; SQL, rows and cursors never leave this folder."""

from pathlib import Path

from receiver.model.errors import SettingsError
from receiver.store.sqlite.store import SqliteStore
from receiver.store.verbs import Store

__all__ = ["Store", "database_path", "described", "is_server", "local_place", "open_store", "password_of", "unfit"]

SQLITE_PREFIX = "sqlite:///"
POSTGRES_PREFIXES = ("postgresql://", "postgres://")
INSTALL = "PostgreSQL needs the extra `receiver[postgres]`: `pip install 'psycopg[binary]>=3.2,<4'`"
SHORTEST_PASSWORD = 12
"""Characters of what is masked wherever it stands."""
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
        raise SettingsError([f"database: {INSTALL}"]) from error
    return PostgresStore(url)


def unfit(url: str) -> list[str]:
    """Why no ledger can be opened there, as far as the URL alone tells, each with the setting in front."""
    if is_server(url):
        try:
            open_store(url)
        except SettingsError as error:
            return error.problems
    return []


def described(url: str) -> str:
    """Where a ledger is, for people: never with the password."""
    if not is_server(url):
        return str(database_path(url))
    from receiver.store.postgres.connection import place

    return place(url)


def password_of(url: str) -> str | None:
    """The secret in a database URL, if there is one. Not a short one: it may be a word, which others say as well."""
    if not is_server(url):
        return None
    from receiver.store.postgres.connection import parameters

    password: str = parameters(url).get("password") or ""
    return password if len(password) >= SHORTEST_PASSWORD else None
