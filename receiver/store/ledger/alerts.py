"""Alerts: what is wrong and is no task's end. One open row per kind and subject, counted."""

import sqlite3

from receiver.model.records import Alert, Filter, Page
from receiver.store.ledger.access import Access, Conditions, alert_of, page_of


class Alerts(Access):
    async def raise_alert(self, kind: str, subject: str, message: str, now: float) -> None:
        """Opens an alert, or counts it up when it is open already."""
        await self._write(lambda connection: open_alert(connection, kind, subject, message, now))

    async def clear_alert(self, kind: str, subject: str, now: float) -> None:
        """Closes an alert; does nothing when none is open."""

        def is_open(connection: sqlite3.Connection) -> bool:
            sql = "select 1 from alerts where kind = ? and subject = ? and closed_at is null"
            return connection.execute(sql, (kind, subject)).fetchone() is not None

        if await self._read(is_open):
            await self._write(lambda connection: close_alert(connection, kind, subject, now))

    async def alerts(self, wanted: Filter) -> Page[Alert]:
        """A page of alerts, newest first; state is open or closed."""

        def work(connection: sqlite3.Connection) -> Page[Alert]:
            conditions = Conditions()
            if wanted.state:
                shown = [f"closed_at is {'null' if state == 'open' else 'not null'}" for state in wanted.state]
                conditions.add(f"({' or '.join(shown)})")
            conditions.among("kind", wanted.kind)
            if wanted.since is not None:
                conditions.add("last_at >= ?", wanted.since)
            if wanted.until is not None:
                conditions.add("opened_at < ?", wanted.until)
            if wanted.cursor is not None:
                conditions.add("id < ?", wanted.cursor)
            rows = connection.execute(
                f"select * from alerts {conditions.where} order by id desc limit ?",
                (*conditions.values, wanted.limit + 1),
            ).fetchall()
            return page_of(rows, wanted.limit, alert_of, "id")

        return await self._read(work)

    async def counters(self) -> dict[str, int]:
        """Everything that was ever counted, by name."""

        def work(connection: sqlite3.Connection) -> dict[str, int]:
            rows = connection.execute("select name, value from counters order by name").fetchall()
            return {row["name"]: row["value"] for row in rows}

        return await self._read(work)


def open_alert(connection: sqlite3.Connection, kind: str, subject: str, message: str, now: float) -> None:
    connection.execute(
        """
        insert into alerts (kind, subject, message, opened_at, last_at) values (?, ?, ?, ?, ?)
        on conflict (kind, subject) where closed_at is null
        do update set count = count + 1, last_at = excluded.last_at, message = excluded.message
        """,
        (kind, subject, message, now, now),
    )


def close_alert(connection: sqlite3.Connection, kind: str, subject: str, now: float) -> None:
    connection.execute(
        "update alerts set closed_at = ? where kind = ? and subject = ? and closed_at is null", (now, kind, subject)
    )
