"""PostgreSQL behind the writer and the readers: its transactions, its failures, its probe."""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import psycopg
from msgspec import Struct
from psycopg.sql import SQL

from receiver.model.errors import ReceiverError
from receiver.store.ledger.transaction import Transaction
from receiver.store.postgres.connection import Connected, Session, session_of
from receiver.store.postgres.failures import storage_failure
from receiver.store.writer import Engine

S = TypeVar("S", bound=Struct)

BEGIN = SQL("begin; select pg_advisory_xact_lock(hashtext('receiver'), hashtext(current_schema()))")
"""One transaction writes at a time, whichever node begins it: what a verb has read stays so until it has written."""
UNWRITABLE, STANDS_FOR = "\x00", "\ufffd"
"""PostgreSQL keeps no NUL in a text; what stands for it is found nowhere, and read as something that was lost."""
LOWER = re.compile(r"\blower\(\?\)")


@lru_cache(1024)
def _translated(sql: str) -> bytes:
    """A statement of the ledger as psycopg reads it. Texts of ours are folded as those in the tables are."""
    text = LOWER.sub('lower(cast(? as text) collate "C")', sql)
    return text.replace("%", "%%").replace("?", "%s").encode()


def _bound(values: Sequence[object]) -> list[object]:
    return [
        each.replace(UNWRITABLE, STANDS_FOR) if isinstance(each, str) and UNWRITABLE in each else each
        for each in values
    ]


class PostgresTransaction(Transaction):
    """A transaction of a connection, or a read on one."""

    def __init__(self, connection: Connected) -> None:
        super().__init__()
        self.connection = connection

    def all(self, sql: str, *values: object) -> list[Any]:
        return self._run(sql, values).fetchall()

    def one(self, sql: str, *values: object) -> Any:
        return self._run(sql, values).fetchone()

    def change(self, sql: str, *values: object) -> int:
        return self._run(sql, values).rowcount

    def lock(self, name: str) -> None:
        """The whole batch holds one lock already."""

    def each_text(self, column: str) -> str:
        return f"select value from json_array_elements_text(cast({column} as json))"

    def each_row(self, *columns: str) -> str:
        fields = ", ".join(
            f"cast(value ->> {place} as {kind}) as {name}"
            for place, (name, kind) in enumerate(each.split(maxsplit=1) for each in columns)
        )
        rows = "json_array_elements(cast(? as json)) with ordinality each_row (value, place)"
        return f"select cast(place - 1 as integer) as number, {fields} from {rows}"

    def records(self, kind: type[S], sql: str, *values: object) -> list[S]:
        names = kind.__struct_fields__
        return [kind(*(row[name] for name in names)) for row in self.all(sql, *values)]

    def new_ids(self, table: str, count: int) -> Sequence[int]:
        sql = "select nextval(pg_get_serial_sequence(?, 'id')) as id from generate_series(1, ?)"
        return sorted(row["id"] for row in self.all(sql, table, count))

    def _run(self, sql: str, values: Sequence[object]) -> psycopg.Cursor[Any]:
        return self.connection.execute(_translated(sql), _bound(values))


class PostgresEngine(Engine):
    """Give it what opens the connection that writes, and is told which session was ours before."""

    def __init__(self, connect: Callable[[Session | None], Connected]) -> None:
        self._connect = connect
        self._connection: Connected | None = None
        self._session: Session | None = None

    @property
    def _open(self) -> Connected:
        assert self._connection is not None
        return self._connection

    def connect(self) -> None:
        self._connection = self._connect(self._session)
        self._session = session_of(self._connection)

    def begin(self) -> Transaction:
        try:
            self._open.execute(BEGIN, prepare=False)
        except psycopg.OperationalError:
            if not self._open.closed:
                raise
            # The server was started again since: nothing was sent on this connection yet, so another one will do.
            self._reconnect()
            self._open.execute(BEGIN, prepare=False)
        return PostgresTransaction(self._open)

    def commit(self) -> None:
        """When the answer is lost nobody knows what became of it: that is an outage, and whoever waits tries again."""
        self._open.execute("commit", prepare=False)

    def roll_back(self) -> None:
        try:
            self._open.execute("rollback", prepare=False)
        except psycopg.Error:
            # A server that hears no more has forgotten the transaction, or will when it notices.
            self._open.close()

    def storage_failure(self, error: Exception) -> str | None:
        return storage_failure(error)

    def probe(self) -> str | None:
        """On a new connection: the server behind a name may be another one by now."""
        try:
            self._reconnect()
            tx = self.begin()
            tx.change("insert into probe (content) values (?)", bytes(65536))
            tx.change("delete from probe")
            self.commit()
        except (psycopg.Error, ReceiverError) as error:
            self.roll_back()
            return storage_failure(error) or "cannot_write"
        return None

    def close(self) -> None:
        self._open.close()

    def _reconnect(self) -> None:
        self._open.close()
        self.connect()
