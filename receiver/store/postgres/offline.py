"""A look at a ledger in PostgreSQL without a server of ours. It changes nothing, and makes nothing."""

from collections.abc import Callable
from typing import TypeVar

import psycopg

from receiver.model.errors import Failed, SettingsError
from receiver.store.ledger.transaction import Transaction
from receiver.store.postgres.connection import Connected, connect, place, refuse_unfit
from receiver.store.postgres.engine import PostgresTransaction
from receiver.store.postgres.migrations import applied, missing

T = TypeVar("T")


def look(url: str) -> str:
    """What is there, in a few words. Raises SettingsError and Failed for what a server could not work with."""
    refuse_unfit(url)
    with connect(url) as connection:
        version = connection.info.parameter_status("server_version") or ""
        return f"PostgreSQL {version.split()[0]}, {place(url)}, {_schema(connection)}"


def read(url: str, work: Callable[[Transaction], T]) -> T | None:
    """What `work` reads there; None where there is no ledger, or none can be reached."""
    try:
        with connect(url) as connection:
            return work(PostgresTransaction(connection)) if applied(connection) else None
    except (psycopg.Error, Failed, SettingsError):
        return None


def _schema(connection: Connected) -> str:
    if not applied(connection):
        return "tables to be made"
    return f"tables to be brought up to date: {', '.join(late)}" if (late := missing(connection)) else "up to date"
