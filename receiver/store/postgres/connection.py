"""Connections to the server: what is asked of them, and what must be so that a ledger is safe there."""

from datetime import datetime
from functools import cache
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg.types.numeric import Int8Dumper

from receiver.model.errors import DatabaseInUse, SettingsError, StoreUnavailable
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
  set_config('idle_in_transaction_session_timeout', '60s', false), set_config('tcp_keepalives_idle', '10', false),
  set_config('tcp_keepalives_interval', '5', false), set_config('tcp_keepalives_count', '3', false)
"""
"""Nothing waits for ever, and a node that has stopped amid a transaction does not hold up the others."""
DURABLE = """
select set_config('synchronous_commit', 'on', false) where current_setting('synchronous_commit') = 'off'
"""
"""What is acknowledged is on disk, whatever the server's default is."""
SESSION = """
select current_setting('server_version_num')::bigint as version, current_setting('server_encoding') as encoding,
  current_schema() as schema, current_setting('search_path') as path
"""
OWN = """
set lock_timeout = '2s';
select pg_advisory_lock(hashtext('receiver owner'), hashtext(current_schema()));
set lock_timeout = '10s'
"""
"""One server has a ledger, for as long as its session lasts."""
Session = tuple[int, datetime]
WHICH_SESSION = "select pid, backend_start from pg_stat_activity where pid = pg_backend_pid()"
END_SESSION = "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s and backend_start = %s"
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
    connection = _open(url)
    try:
        connection.execute(LIMITS)
        connection.execute(DURABLE)
    except psycopg.Error as error:
        connection.close()
        raise _unreachable(url, error) from None
    return connection


def connect_to_own(url: str, former: Session | None = None) -> Connected:
    """The same, as the one server that has this ledger; a session that it had before is ended.

    Raises StoreUnavailable for a standby, which takes no writes, and DatabaseInUse while another server has it.
    """
    connection = connect(url)
    try:
        if connection.execute("select pg_is_in_recovery() as standby").fetchall()[0]["standby"]:
            raise StoreUnavailable(READ_ONLY, f"{place(url)} is a standby, and takes no writes")
        if former is not None:
            # The server may not have noticed yet that it is gone, and what it has locked would wait for that.
            connection.execute(END_SESSION, former)
        connection.execute(OWN, prepare=False)
    except psycopg.errors.LockNotAvailable:
        connection.close()
        raise DatabaseInUse(f"another process is serving this database ({place(url)})") from None
    except psycopg.Error as error:
        connection.close()
        raise _unreachable(url, error) from None
    except StoreUnavailable:
        connection.close()
        raise
    return connection


def session_of(connection: Connected) -> Session:
    """What tells a session from every other one that the server ever had."""
    (found,) = connection.execute(WHICH_SESSION).fetchall()
    return found["pid"], found["backend_start"]


def refuse_unfit(url: str) -> None:
    """Raises SettingsError, with the remedy, for a server or sessions in which a ledger would not be safe.

    Nothing is set in its sessions, which may be somebody else's too.
    """
    try:
        with _open(url) as connection, _open(url) as other:
            if _is_pooled(connection, other):
                raise _unfit(POOLED)
            (found,) = connection.execute(SESSION).fetchall()
    except psycopg.Error as error:
        raise _unreachable(url, error) from None
    if found["version"] < OLDEST:
        raise _unfit(f"expected PostgreSQL {OLDEST // 10_000} or newer, got {found['version'] // 10_000}")
    if found["encoding"] != "UTF8":
        raise _unfit(f"expected a database in UTF8, got {found['encoding']}: `create database … encoding 'UTF8'`")
    if found["schema"] is None:
        told = f"none of the schemas in the search path exists ({found['path']})"
        raise _unfit(f"{told}: `create schema …`, or name another by ?options=-csearch_path%3DNAME")


def _is_pooled(connection: Connected, other: Connected) -> bool:
    """Whether two connections share the sessions of the server: a transaction of the one takes that of the other."""
    mine = _process(connection)
    if connection.info.backend_pid == mine:
        return False  # the server itself has told its number when we connected
    other.execute("begin")
    return _process(other) == mine or _process(connection) != mine


def _process(connection: Connected) -> int:
    """The number of the server's process that serves a connection just now."""
    (found,) = connection.execute("select pg_backend_pid() as pid", prepare=False).fetchall()
    pid: int = found["pid"]
    return pid


def _open(url: str) -> Connected:
    try:
        connection = psycopg.connect(**parameters(url), autocommit=True, row_factory=dict_row)
    except psycopg.Error as error:
        raise _unreachable(url, error) from None
    _adapt(connection)
    connection.prepared_max = 500
    return connection


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
