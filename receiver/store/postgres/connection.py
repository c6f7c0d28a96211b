"""Connections to the server: what is asked of them, and what must be so that a ledger is safe there."""

from functools import cache
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.numeric import Int8Dumper

from receiver.model.errors import SettingsError, StoreUnavailable
from receiver.store.postgres.failures import READ_ONLY, said, storage_failure

Connected = Connection[DictRow]

DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    # A server that has vanished without a word is noticed within half a minute.
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
    "application_name": "receiver",
    "client_encoding": "UTF8",
}
"""What a URL that does not say otherwise is completed by; in seconds, `tcp_user_timeout` in milliseconds."""
OLDEST = 130_000
"""Of PostgreSQL, as it counts its versions: 13."""
LIMITS = """
select set_config('lock_timeout', '10s', false), set_config('statement_timeout', '60s', false),
  set_config('idle_in_transaction_session_timeout', '60s', false), set_config('timezone', 'UTC', false)
"""
"""Nothing waits for ever, and a node that has stopped amid a transaction does not hold up the others."""
DURABLE = """
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
"""
"""What is acknowledged is on disk, whatever the server's default is."""
SESSION = """
select current_setting('server_version_num')::bigint as version, current_setting('server_encoding') as encoding,
  current_schema() as schema, current_setting('search_path') as path, current_user as name
"""
POOLED = (
    "the server is behind a pooler in transaction mode, which gives one session to many: name the port of the server"
    " itself, or of a pooler in session mode"
)


class IntegerLoader(Loader):
    """A sum of integers comes as a decimal number; it is read as what it was."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return float(text) if b"." in text or b"a" in text else int(text)


@cache
def parameters(url: str) -> dict[str, Any]:
    """What a URL says, completed. Raises SettingsError for what is no URL of PostgreSQL."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        # The error names the part that it could not read, which may be the password.
        raise _unfit("expected postgresql://USER:PASSWORD@HOST/DATABASE, with %XX for special characters") from None
    several = "," in str(given.get("host", ""))
    return {**DEFAULTS, **({"target_session_attrs": "read-write"} if several else {}), **given}


def place(url: str) -> str:
    """Where the database is, without what must not be read."""
    found = parameters(url)
    return f"{found.get('dbname') or found.get('user') or 'postgres'} at {found.get('host') or 'the local socket'}"


def connect(url: str) -> Connected:
    """A connection without a transaction. Raises StoreUnavailable, SettingsError for what waiting does not mend."""
    try:
        connection = psycopg.connect(**parameters(url), autocommit=True, row_factory=dict_row)
    except psycopg.Error as error:
        raise _unreachable(url, error) from None
    try:
        _adapt(connection)
        connection.execute(LIMITS)
        connection.execute(DURABLE)
    except psycopg.Error as error:
        connection.close()
        raise _unreachable(url, error) from None
    connection.prepared_max = 500
    return connection


def connect_to_write(url: str) -> Connected:
    """The same, on a server that takes writes. Raises StoreUnavailable for a standby."""
    connection = connect(url)
    if connection.execute("select pg_is_in_recovery() as standby").fetchall()[0]["standby"]:
        connection.close()
        raise StoreUnavailable(READ_ONLY, f"{place(url)} is a standby, and takes no writes")
    return connection


def refuse_unfit(connection: Connected, url: str) -> None:
    """Raises SettingsError, with the remedy, for a server or a session in which a ledger would not be safe."""
    (found,) = connection.execute(SESSION).fetchall()
    if found["version"] < OLDEST:
        raise _unfit(f"expected PostgreSQL {OLDEST // 10_000} or newer, got {found['version'] // 10_000}")
    if found["encoding"] != "UTF8":
        raise _unfit(f"expected a database in UTF8, got {found['encoding']}: `create database … encoding 'UTF8'`")
    if found["schema"] is None:
        told = f"none of the schemas in the search path exists ({found['path']})"
        raise _unfit(f"{told}: `create schema …`, or name another by ?options=-csearch_path%3DNAME")
    if _is_pooled(connection, url):
        raise _unfit(POOLED)


def _is_pooled(connection: Connected, url: str) -> bool:
    """Whether two connections share a session of the server. A direct one is told by the number of its process."""
    pid = "select pg_backend_pid() as pid"
    mine = connection.execute(pid).fetchall()[0]["pid"]
    if connection.info.backend_pid == mine:
        return False
    with connect(url) as other:
        other.execute("begin")
        theirs = other.execute(pid).fetchall()[0]["pid"]
        again = connection.execute(pid).fetchall()[0]["pid"]
        other.execute("rollback")
    return bool(mine == theirs or mine != again)


def _adapt(connection: Connected) -> None:
    context: AdaptContext = connection
    assert context.adapters is not None
    # One statement is prepared once, however large its numbers are.
    context.adapters.register_dumper(int, Int8Dumper)
    context.adapters.register_loader("numeric", IntegerLoader)


def _unreachable(url: str, error: psycopg.Error) -> SettingsError | StoreUnavailable:
    given = parameters(url)
    told = f"{place(url)} cannot be used: {said(error, given.get('password'))}"
    lasting = ("authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied")
    if any(word in told for word in (*lasting, "certificate", "SSL")) and "starting up" not in told:
        return _unfit(told)
    if "too many" in told or "remaining connection slots" in told:
        return StoreUnavailable("too_many_connections", told)
    return StoreUnavailable(storage_failure(error) or "cannot_connect", told)


def _unfit(problem: str) -> SettingsError:
    return SettingsError([f"database: {problem}"])
