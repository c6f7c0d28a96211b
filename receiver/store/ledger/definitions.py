"""Definitions as the database knows them: paused or not, how fast they may go, whether their target is well."""

import sqlite3
from collections.abc import Sequence

import msgspec

from receiver.model import breaker as breakers
from receiver.model.definitions import ActionKind, Definition
from receiver.model.records import Breaker, DefinitionState
from receiver.model.rules import RATE_BURST
from receiver.store.ledger.access import Access, count_up, encode, marks
from receiver.store.ledger.alerts import close_alert, open_alert
from receiver.store.ledger.events import release_waiting

BREAKER_ALERT = "breaker_open"


class Definitions(Access):
    async def sync_definitions(self, definitions: Sequence[Definition], now: float) -> int:
        """Writes down what is configured; owed actions of a definition that is gone are skipped. Returns how many."""
        names = [each.name for each in definitions]

        def work(connection: sqlite3.Connection) -> int:
            connection.execute("update definitions set configured = 0")
            for each in definitions:
                _configure(connection, each, now)
            for gone in connection.execute("select name from definitions where configured = 0").fetchall():
                close_alert(connection, BREAKER_ALERT, gone["name"], now)
            skipped = connection.execute(
                f"""
                update actions set state = 'skipped', settled_at = ?, due_at = null, reason = 'its definition is gone'
                where state = 'owed' and name not in ({marks(names)}) returning event
                """,
                (now, *names),
            ).fetchall()
            for event in {row["event"] for row in skipped}:
                release_waiting(connection, event, now)
            return len(skipped)

        return await self._write(work)

    async def set_paused(self, name: str, now: float, *, paused: bool) -> bool:
        """Pauses or resumes a definition; resuming closes its breaker. False when there is none of that name."""

        def work(connection: sqlite3.Connection) -> bool:
            sql = "update definitions set paused = ? where name = ?"
            found = bool(connection.execute(sql, (paused, name)).rowcount)
            if found and not paused:
                _keep(connection, name, breakers.CLOSED)
                close_alert(connection, BREAKER_ALERT, name, now)
            return found

        return await self._write(work)

    async def definition_states(self) -> list[DefinitionState]:
        """Every definition that is or was configured, with its actions counted by state."""

        def work(connection: sqlite3.Connection) -> list[DefinitionState]:
            counts: dict[str, dict[str, int]] = {}
            for row in connection.execute("select name, state, count(*) as n from actions group by name, state"):
                counts.setdefault(row["name"], {})[row["state"]] = row["n"]
            rows = connection.execute("select * from definitions order by name").fetchall()
            return [
                DefinitionState(
                    name=row["name"],
                    kind=row["kind"],
                    configured=bool(row["configured"]),
                    paused=bool(row["paused"]),
                    breaker=_breaker_of(row),
                    counts=counts.get(row["name"], {}),
                )
                for row in rows
            ]

        return await self._read(work)


def find(connection: sqlite3.Connection, name: str) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute("select * from definitions where name = ?", (name,)).fetchone()
    return row


def ready_at(connection: sqlite3.Connection, row: sqlite3.Row | None, now: float) -> float | None:
    """The earliest time at which a definition may begin a try; None while it is paused."""
    if row is None:
        return now
    if row["paused"]:
        return None
    trial = connection.execute("select state from actions where id = ?", (row["trial"],)).fetchone()
    runs = trial is not None and trial["state"] == "running"
    return max(breakers.ready_at(_breaker_of(row), now, trial_runs=runs), _next_at(row, now) - RATE_BURST)


def _next_at(row: sqlite3.Row, now: float) -> float:
    """When the rate allows the next try. One further off than the rate can make it is of a clock that was set back."""
    if row["rate"] is None:
        return now
    next_at: float = row["next_at"]
    return next_at if next_at <= now + 1 / row["rate"] + RATE_BURST else now


def note_begun(connection: sqlite3.Connection, row: sqlite3.Row, action: int, now: float) -> None:
    """A try begins: its place in the rate is taken, and behind an open breaker it is the trial."""
    if row["rate"] is not None:
        next_at = max(_next_at(row, now), now) + 1 / row["rate"]
        connection.execute("update definitions set next_at = ? where name = ?", (next_at, row["name"]))
    before = _breaker_of(row)
    after = breakers.begun(before, action)
    if after != before:
        _keep(connection, row["name"], after)


def note_ended(
    connection: sqlite3.Connection, name: str, action: int, now: float, *, outcome: str, unwell: bool, wait: float
) -> None:
    """A try ended: the breaker opens, stays or closes, and an alert with it."""
    row = find(connection, name)
    if row is None:
        return
    before = _breaker_of(row)
    if outcome == "returned":
        after = breakers.given_back(before, action)
    elif unwell and row["breaker_limit"]:
        after = breakers.failed(before, action, now, limit=row["breaker_limit"], retry_after=wait)
    else:
        after = breakers.CLOSED
    if after == before:
        return
    _keep(connection, name, after)
    if after.openings > before.openings:
        count_up(connection, "breakers_opened")
        message = f"{len(after.failed)} actions of {name} failed in a row; the others wait until a trial succeeds"
        open_alert(connection, BREAKER_ALERT, name, message, now)
    elif breakers.is_open(before) and not breakers.is_open(after):
        close_alert(connection, BREAKER_ALERT, name, now)


def _configure(connection: sqlite3.Connection, definition: Definition, now: float) -> None:
    connection.execute(
        """
        insert into definitions (name, kind, configured, rate, breaker_limit) values (?, ?, 1, ?, ?)
        on conflict (name) do update set kind = excluded.kind, configured = 1,
          rate = excluded.rate, breaker_limit = excluded.breaker_limit
        """,
        (definition.name, definition.kind, definition.rate, definition.breaker),
    )
    if not definition.breaker:
        _keep(connection, definition.name, breakers.CLOSED)
        close_alert(connection, BREAKER_ALERT, definition.name, now)


def _breaker_of(row: sqlite3.Row) -> Breaker:
    return Breaker(
        failed=msgspec.json.decode(row["failed"], type=tuple[int, ...]),
        openings=row["openings"],
        open_until=row["open_until"],
        trial=row["trial"],
    )


def _keep(connection: sqlite3.Connection, name: str, breaker: Breaker) -> None:
    connection.execute(
        """
        update definitions set failed = ?, openings = ?, open_until = ?, trial = ? where name = ?
        """,
        (encode(breaker.failed), breaker.openings, breaker.open_until, breaker.trial, name),
    )


def is_expiring(row: sqlite3.Row | None) -> bool:
    """Whether what a definition's actions need dies with time: result links do."""
    return row is not None and row["kind"] == ActionKind.DOWNLOAD
