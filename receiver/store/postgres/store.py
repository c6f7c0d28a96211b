"""The ledger in PostgreSQL: opening and closing, and how it is."""

import asyncio
import time
from collections.abc import Callable
from typing import IO, TypeVar

from receiver.model.entries import Storing
from receiver.model.errors import DatabaseInUse, Failed, Refused, StoreUnavailable
from receiver.store.grouped import GroupedStore
from receiver.store.ledger.transaction import Transaction
from receiver.store.postgres.connection import Connected, Session, connect, connect_to_own, parameters, refuse_unfit
from receiver.store.postgres.engine import PostgresEngine
from receiver.store.postgres.migrations import migrate
from receiver.store.postgres.readers import Readers

T = TypeVar("T")

PATIENCE = 30.0
POLL = 0.5
"""Seconds between two looks for a server that is not there yet."""


class PostgresStore(GroupedStore):
    """The ledger in the database that a URL names."""

    def __init__(self, url: str, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        parameters(url)
        self._url = url
        self._version = 0
        self._monotonic = monotonic
        self._ready: Connected | None = None
        super().__init__(PostgresEngine(self._connect), monotonic)
        self._readers = Readers(lambda: connect(url))

    async def read(self, work: Callable[[Transaction], T]) -> T:
        return await self._readers.run(work)

    async def open(self, patience: float = PATIENCE, waiting: Callable[[str], None] = lambda why: None) -> None:
        """Brings the schema up to date, waiting up to `patience` seconds for the server. `waiting` is told why.

        Raises SettingsError for a database that must not be used, DatabaseInUse while another server has it, and
        Failed when it does not come.
        """
        began = self._monotonic()
        told = False
        while True:
            try:
                await asyncio.to_thread(self._make_ready)
                break
            except (StoreUnavailable, DatabaseInUse) as problem:
                if self._monotonic() - began >= patience:
                    raise problem if isinstance(problem, DatabaseInUse) else Failed(f"database: {problem}") from problem
                if not told:
                    waiting(f"{problem}; waiting up to {patience:g} s")
                told = True
            await asyncio.sleep(POLL)
        await self._writer.open()

    async def close(self) -> None:
        self._readers.close()
        await self._writer.close()

    def storing(self) -> Storing:
        return self._storing(f"PostgreSQL {self._version}", None)

    def problem(self) -> str | None:
        return self._writer.broken if self._writer.alive else "writer_dead"

    async def backup(self) -> IO[bytes]:
        raise Refused(409, "backup_elsewhere", "the ledger is in PostgreSQL: `pg_dump DATABASE_URL` makes a copy of it")

    def refuse_without_room(self) -> None:
        """The disk is the server's: when it is full, the writes themselves say so."""

    def _make_ready(self) -> None:
        refuse_unfit(self._url)
        connection = connect_to_own(self._url)
        try:
            migrate(connection)
            self._version = connection.info.server_version // 10_000
        except BaseException:
            connection.close()
            raise
        self._ready = connection

    def _connect(self, former: Session | None) -> Connected:
        """The connection that was made ready, else a new one."""
        connection, self._ready = self._ready, None
        return connection or connect_to_own(self._url, former)
