"""The schema, as an append-only list of migrations. A step has the number of the file's step that it goes with.

They run in one transaction, under a lock: of several nodes that start at once one migrates, the others find it done.
"""

import re
from collections.abc import Mapping, Sequence

import psycopg

from receiver.model.errors import SettingsError
from receiver.store.postgres.connection import Connected
from receiver.store.postgres.migrations import counting, schema, triggers

STEPS: Mapping[str, Sequence[str]] = {
    # All that a file has after its m009.
    "m009_first": (*schema.SCHEMA, *triggers.TRIGGERS),
    # Ends are tallied, tasks counted by state, and what people did is written down.
    "m010_counted_and_audited": (*counting.TALLIES, *counting.TASK_COUNTS, *counting.AUDIT),
}
"""Once released, none is changed: a ledger may have been through it."""

LOCK = "select pg_advisory_xact_lock(hashtext('receiver migrations'), hashtext(current_schema()))"
WORDS = {"text": 'text collate "C"', "real": "double precision"}
"""Types, as they are written here, and what they are in PostgreSQL."""
TYPE = re.compile(r"(?<=[a-z0-9_] )(text|real)\b(?=[ ,)\n])")


def migrate(connection: Connected) -> list[str]:
    """Brings the schema up to date. Returns the names of the steps that were missing.

    Raises SettingsError when the schema belongs to another program, or must not be changed.
    """
    try:
        with connection.transaction():
            connection.execute("set local lock_timeout = 0; set local statement_timeout = 0")
            connection.execute(LOCK)
            return _apply(connection)
    except psycopg.errors.InsufficientPrivilege as error:
        told = "its user may not make tables there: `grant create, usage on schema … to …`"
        raise SettingsError([f"database: {error.diag.message_primary}; {told}"]) from None


def applied(connection: Connected) -> set[str]:
    """The names of the steps that a schema has been through; empty when it is none of ours."""
    (found,) = connection.execute("select to_regclass('receiver_migrations') is not null as ours").fetchall()
    if not found["ours"]:
        return set()
    return {row["name"] for row in connection.execute("select name from receiver_migrations").fetchall()}


def missing(connection: Connected) -> list[str]:
    """The names of the steps that a schema has not been through, in their order."""
    done = applied(connection)
    return [name for name in STEPS if name not in done]


def _apply(connection: Connected) -> list[str]:
    names = missing(connection)
    if len(names) == len(STEPS):
        _refuse_foreign(connection)
        connection.execute(_sql("create table receiver_migrations (name text primary key, applied_at real not null)"))
    for name in names:
        for statement in STEPS[name]:
            connection.execute(_sql(statement))
        done = "insert into receiver_migrations (name, applied_at) values (%s, extract(epoch from now()))"
        connection.execute(done, (name,))
    return names


def _refuse_foreign(connection: Connected) -> None:
    (found,) = connection.execute("select to_regclass('tasks') is not null as there").fetchall()
    if found["there"]:
        told = "there are tables of another program in this schema, which has `tasks` too"
        raise SettingsError([f"database: {told}: give ours a schema of its own by ?options=-csearch_path%3DNAME"])


def _sql(statement: str) -> bytes:
    if statement.lstrip().startswith("create table"):
        statement = TYPE.sub(lambda found: WORDS[found[1]], statement)
    return statement.encode()
