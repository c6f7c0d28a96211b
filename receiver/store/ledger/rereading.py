"""Kept deliveries, read anew by a parser that knows more than the one that read them when they came."""

import sqlite3
from collections.abc import Sequence

from receiver.model.entries import Reading, Selection
from receiver.model.records import JsonObject, Replay, ReplayMode
from receiver.store.ledger.access import Access, Conditions, encode
from receiver.store.ledger.replays import begin, matched, narrow, spacing

DELIVERIES = "select d.id from deliveries d join tasks t on t.key = d.task"


class Rereading(Access):
    async def kept_deliveries(self, wanted: Selection, after: int, limit: int) -> list[int]:
        """The deliveries of a selection whose bytes were kept whole, oldest first, beyond the one numbered `after`."""

        def work(connection: sqlite3.Connection) -> list[int]:
            conditions = _delivery_conditions(wanted)
            conditions.add("d.id > ?", after)
            rows = connection.execute(
                f"{DELIVERIES} {conditions.where} order by d.id limit ?", (*conditions.values, limit)
            ).fetchall()
            return [row["id"] for row in rows]

        return await self._read(work)

    async def count_kept_deliveries(self, wanted: Selection) -> int:
        def work(connection: sqlite3.Connection) -> int:
            conditions = _delivery_conditions(wanted)
            rows = connection.execute(f"select count(*) from ({DELIVERIES} {conditions.where})", conditions.values)
            count: int = rows.fetchone()[0]
            return count

        return await self._read(work)

    async def begin_rereading(self, note: JsonObject, rate: float | None, now: float) -> int:
        """A replay of deliveries, begun; its number."""
        return await self._write(lambda connection: begin(connection, ReplayMode.REPROCESS, note, rate, now))

    async def reread(self, replay: int, readings: Sequence[Reading], now: float) -> Replay:
        """Writes what deliveries say now. Tasks whose end is not certain are due, spread by the replay's rate."""

        def work(connection: sqlite3.Connection) -> Replay:
            begun = connection.execute("select * from replays where id = ?", (replay,)).fetchone()
            for place, reading in enumerate(readings, begun["matched"]):
                _reread(connection, reading, max(now, begun["created_at"] + place * spacing(begun["rate"])))
            return matched(connection, replay, begun["matched"] + len(readings))

        return await self._write(work)


def _reread(connection: sqlite3.Connection, reading: Reading, due: float) -> None:
    stored = connection.execute(
        """
        update deliveries set problem = ?, claim = ?, provider_task_id = ?, contradicting = (
          select ? is not null and provider_task_id is not null and provider_task_id <> ? from tasks
          where key = deliveries.task
        ) where id = ? returning task, contradicting
        """,
        (
            reading.problem,
            reading.claim,
            reading.provider_task_id,
            reading.provider_task_id,
            reading.provider_task_id,
            reading.delivery,
        ),
    ).fetchone()
    if reading.problem is not None or stored["contradicting"]:
        return
    connection.execute(
        """
        update tasks set check_at = min(coalesce(check_at, ?), ?)
        where key = ? and confirmed = 0 and state <> 'queued'
        """,
        (due, due, stored["task"]),
    )
    # An event that rests on the provider's own answer is not touched by what a stranger posted.
    connection.execute(
        "update events set results = ?, error = ?, usage = ?, extra = ? where task = ? and confirmed = 0 and state = ?",
        (
            encode(reading.results),
            encode(reading.error) if reading.error else None,
            encode(reading.usage),
            encode(reading.extra),
            stored["task"],
            reading.claim,
        ),
    )


def _delivery_conditions(wanted: Selection) -> Conditions:
    conditions = Conditions()
    conditions.add("d.size <= length(d.body)")
    narrow(conditions, wanted, "d.received_at")
    return conditions
