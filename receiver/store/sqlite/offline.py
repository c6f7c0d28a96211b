"""Reads a database file without a server: its secrets, and what it holds, for programs on the same machine."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from receiver.store.ledger import submissions
from receiver.store.sqlite.database import connect_read_only
from receiver.store.sqlite.engine import SqliteTransaction

T = TypeVar("T")

COUNTS = """
select 'tasks ' || state as name, count(*) as n from tasks group by state
union all select 'events from ' || source, count(*) from events where confirmed = 1 group by source
union all select 'actions ' || state, count(*) from actions group by state
union all select 'tries ' || coalesce(outcome, 'running'), count(*) from attempts group by outcome
union all select 'deliveries kept', count(*) from deliveries
union all select 'deliveries counted', coalesce(sum(count), 0) from deliveries
union all select 'files', count(*) from files
union all select 'misses closed', count(*) from tasks where miss = 'late'
"""


def read_secret(path: Path, name: str) -> str | None:
    """A secret out of a database file; None when it has none, or there is no such file."""

    def read(connection: sqlite3.Connection) -> str | None:
        row = connection.execute("select value from secrets where name = ?", (name,)).fetchone()
        return row["value"] if row else None

    return _read(path, read, None)


def open_by_site(path: Path) -> dict[str, int]:
    """How many tasks that have not ended were sent to each site."""

    def read(connection: sqlite3.Connection) -> dict[str, int]:
        return submissions.open_by_site(SqliteTransaction(connection), but="")

    return _read(path, read, {})


def sites_of_key(path: Path, key: str) -> list[str]:
    """The sites at which a server with this database has used an API key, by its fingerprint."""

    def read(connection: sqlite3.Connection) -> list[str]:
        return submissions.sites_of(SqliteTransaction(connection), key)

    return _read(path, read, [])


def summary(path: Path) -> dict[str, int]:
    """What a database holds, counted by name; empty when there is no such database."""

    def read(connection: sqlite3.Connection) -> dict[str, int]:
        return {row["name"]: row["n"] for row in connection.execute(COUNTS)}

    return _read(path, read, {})


def _read(path: Path, read: Callable[[sqlite3.Connection], T], missing: T) -> T:
    try:
        connection = connect_read_only(path)
    except sqlite3.OperationalError:
        return missing
    try:
        return read(connection)
    except sqlite3.DatabaseError:
        return missing
    finally:
        connection.close()
