"""SQLite behind the writer and the readers: its transactions, its failures, its probe."""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from receiver.model import rules
from receiver.model.errors import StoreUnavailable
from receiver.store.ledger.transaction import Transaction
from receiver.store.writer import Engine

S = TypeVar("S", bound=Struct)

STORAGE_FAILURES = {
    sqlite3.SQLITE_FULL: "disk_full",
    sqlite3.SQLITE_IOERR: "disk_error",
    sqlite3.SQLITE_READONLY: "read_only",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_CANTOPEN: "cannot_open",
    sqlite3.SQLITE_BUSY: "locked",
}


def storage_failure(error: Exception) -> str | None:
    """The reason code of an error of the storage itself; None for any other."""
    if isinstance(error, StoreUnavailable):
        return error.reason
    return STORAGE_FAILURES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF)


@cache
def _decoder(kind: type[S]) -> msgspec.json.Decoder[list[S]]:
    return msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]


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

    def each_row(self, *columns: str) -> str:
        names = (each.split()[0] for each in columns)
        fields = ", ".join(f"value ->> {place} as {name}" for place, name in enumerate(names))
        return f"select key as number, {fields} from json_each(?)"

    def records(self, kind: type[S], sql: str, *values: object) -> list[S]:
        """Every row is a step, and every step lets go of Python's lock: so all come in one."""
        fields = ", ".join(kind.__struct_fields__)
        text = self.value(f"select json_group_array(json_array({fields})) as value from ({sql})", *values)
        return _decoder(kind).decode(text)

    def new_ids(self, table: str, count: int) -> Sequence[int]:
        last = self.value("select seq as value from sqlite_sequence where name = ?", table) or 0
        return range(last + 1, last + 1 + count)


class SqliteEngine(Engine):
    """Give it what opens the read-write connection, and what says why the file must not be written to now, if so."""

    def __init__(
        self,
        connect: Callable[[], sqlite3.Connection],
        unfit: Callable[[], str | None] = lambda: None,
        log_kept: int = rules.LOG_KEPT,
    ) -> None:
        self._connect = connect
        self._unfit = unfit
        self._connection: sqlite3.Connection | None = None
        self._log = Path()
        self._log_kept = self._log_most = log_kept

    @property
    def _open(self) -> sqlite3.Connection:
        assert self._connection is not None
        return self._connection

    def connect(self) -> None:
        self._connection = self._connect()
        (_, _, path) = self._open.execute("pragma database_list").fetchone()
        self._log = Path(f"{path}-wal")

    def begin(self) -> Transaction:
        reason = self._unfit()
        if reason == "log_gone":
            # What is in the log alone would be lost with this process.
            self._open.execute("pragma wal_checkpoint")
        if reason is not None:
            raise StoreUnavailable(reason, "the file is not the one that was opened")
        self._shorten_log()
        self._open.execute("begin immediate")
        return SqliteTransaction(self._open)

    def _shorten_log(self) -> None:
        """SQLite begins its log anew when nobody reads in it: where reads overlap without end, they are waited for.

        A read that takes its time, as a backup does, must not hold up every write: after each try the log may double.
        """
        try:
            size = os.stat(self._log).st_size
        except OSError:
            return  # it is not there, which is found out elsewhere
        if size <= self._log_kept:
            self._log_most = self._log_kept
        elif size > self._log_most:
            self._log_most = 2 * size
            patience = min(rules.LOG_PATIENCE * size / self._log_kept, rules.LOG_PATIENCE_MOST)
            with self._waiting_for_others(patience):
                self._open.execute("pragma wal_checkpoint(restart)").fetchall()

    def commit(self) -> None:
        self._open.execute("commit")

    def roll_back(self) -> None:
        if self._open.in_transaction:
            try:
                self._open.execute("rollback")
            except sqlite3.Error:
                return  # SQLite has rolled back by itself in the meantime

    def storage_failure(self, error: Exception) -> str | None:
        return storage_failure(error)

    def probe(self) -> str | None:
        with self._waiting_for_others(0):  # who waits for an answer gets it at once
            try:
                self.begin()
                self._open.execute("insert into facts (name, value) values ('probe', zeroblob(65536))")
                self._open.execute("delete from facts where name = 'probe'")
                self.commit()
            except (sqlite3.Error, StoreUnavailable) as error:
                self.roll_back()
                return storage_failure(error) or "cannot_write"
        return None

    @contextmanager
    def _waiting_for_others(self, seconds: float) -> Iterator[None]:
        """For so long another connection that is in the way is waited for."""
        (usual,) = self._open.execute("pragma busy_timeout").fetchone()
        self._open.execute(f"pragma busy_timeout = {seconds * 1000:.0f}")
        try:
            yield
        finally:
            self._open.execute(f"pragma busy_timeout = {usual}")

    def close(self) -> None:
        self._open.close()
