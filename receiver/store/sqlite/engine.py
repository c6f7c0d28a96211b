"""SQLite behind the writer and the readers: its transactions, its failures, its probe."""

import sqlite3
from collections.abc import Callable
from typing import Any

from receiver.store.ledger.transaction import Transaction
from receiver.store.writer import Engine

STORAGE_FAILURES = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "disk_error",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
}


class SqliteTransaction(Transaction):
    """A transaction of a connection, or a read on one."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        super().__init__()
        self.connection = connection

    def all(self, sql: str, *values: object) -> list[Any]:
        return self.connection.execute(sql, values).fetchall()

    def one(self, sql: str, *values: object) -> Any:
        return self.connection.execute(sql, values).fetchone()

    def change(self, sql: str, *values: object) -> int:
        return self.connection.execute(sql, values).rowcount

    def lock(self, name: str) -> None:
        """One connection writes, one transaction at a time."""

    def each_text(self, column: str) -> str:
        return f"select value from json_each({column})"


class SqliteEngine(Engine):
    """Give it what opens the read-write connection."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._connect = connect
        self._connection: sqlite3.Connection | None = None

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def connect(self) -> None:
        self._connection = self._connect()

    def begin(self) -> Transaction:
        self._open.execute("begin immediate")
        return SqliteTransaction(self._open)

    def commit(self) -> None:
        self._open.execute("commit")

    def roll_back(self) -> None:
        if self._open.in_transaction:
            try:
                self._open.execute("rollback")
            except sqlite3.Error:
                return  # SQLite has rolled back by itself in the meantime

    def storage_failure(self, error: Exception) -> str | None:
        if not isinstance(error, sqlite3.Error):
            return None
        return STORAGE_FAILURES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)

    def probe(self) -> bool:
        try:
            self._open.execute("begin immediate")
            self._open.execute("insert into facts (name, value) values ('probe', zeroblob(65536))")
            self._open.execute("delete from facts where name = 'probe'")
            self._open.execute("commit")
        except sqlite3.Error:
            self.roll_back()
            return False
        return True

    def close(self) -> None:
        self._open.close()
