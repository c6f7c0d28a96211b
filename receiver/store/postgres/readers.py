"""Reading: a few threads, each with a connection of its own that cannot write."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import psycopg
from psycopg.sql import SQL

from receiver.model.errors import SettingsError, StoreUnavailable
from receiver.store.ledger.transaction import Transaction
from receiver.store.postgres.connection import Connected
from receiver.store.postgres.engine import PostgresTransaction
from receiver.store.postgres.failures import storage_failure

T = TypeVar("T")

THREADS = 4
ONE_MOMENT = SQL("begin isolation level repeatable read read only")


class Readers:
    """Runs reads. Give it what opens a connection."""

    def __init__(self, connect: Callable[[], Connected]) -> None:
        self._connect = connect
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="reader")
        self._local = threading.local()
        self._connections: set[Connected] = set()

    async def run(self, work: Callable[[Transaction], T]) -> T:
        """Runs `work` on a read-only view of one moment. Raises StoreUnavailable when the storage fails."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._attempt, work)

    def close(self) -> None:
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _attempt(self, work: Callable[[Transaction], T]) -> T:
        try:
            try:
                return self._read(work)
            except psycopg.OperationalError:
                if self._local.connection is not None:
                    raise
                # The connection was lost since it was used last, or just now: reading twice does no harm.
                return self._read(work)
        except (psycopg.Error, SettingsError) as error:
            reason = storage_failure(error)
            if reason is None:
                raise
            raise StoreUnavailable(reason, f"nothing can be read: {reason.replace('_', ' ')}") from error

    def _read(self, work: Callable[[Transaction], T]) -> T:
        connection = self._connection()
        try:
            connection.execute(ONE_MOMENT)
            return work(PostgresTransaction(connection))
        finally:
            self._end(connection)

    def _end(self, connection: Connected) -> None:
        """Leaves a connection ready for the next read, or forgets it."""
        try:
            connection.execute("rollback")
        except psycopg.Error:
            connection.close()
            self._connections.discard(connection)
            self._local.connection = None

    def _connection(self) -> Connected:
        connection: Connected | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
            self._connections.add(connection)
        return connection
