"""Replays: many actions owed again, or anew, in one transaction; their rate is spread over their due times.

What a cancelled replay had not begun is parked: it is as it was before, and may be taken up again.
"""

import sqlite3

from receiver.model import rules
from receiver.model.entries import Candidate, OwedAction, Selection
from receiver.model.records import Filter, JsonObject, Page, Replay, ReplayMode
from receiver.store.ledger.access import Access, Conditions, decode, encode, marks, page_of, task_of
from receiver.store.ledger.events import FORERUNNERS, owe, release_waiting

CONFIGURED = "a.name in (select name from definitions where configured = 1)"
"""What nobody would run is not owed again."""


class Replays(Access):
    async def count_retries(self, wanted: Selection) -> int:
        """How many actions `retry` would take up."""

        def work(connection: sqlite3.Connection) -> int:
            conditions = _action_conditions(wanted)
            count: int = connection.execute(
                f"select count(*) from actions a join tasks t on t.key = a.task {conditions.where}", conditions.values
            ).fetchone()[0]
            return count

        return await self._read(work)

    async def retry(self, wanted: Selection, note: JsonObject, rate: float | None, now: float) -> Replay:
        """The same rows are owed again with a fresh budget of tries; `rate` is how many become due per second."""

        def work(connection: sqlite3.Connection) -> Replay:
            conditions = _action_conditions(wanted)
            # What the same replay has done within a few seconds is the same button pressed twice.
            conditions.add(
                """
                (a.state <> 'done' or a.replay is null or a.replay not in (
                  select id from replays where mode = 'retry' and filter = ? and created_at > ?))
                """,
                encode(note),
                now - rules.PRESSED_TWICE,
            )
            replay = begin(connection, ReplayMode.RETRY, note, rate, now)
            connection.execute(
                f"""
                update replays set dropped = dropped + p.n
                from (
                  select a.replay as id, count(*) as n
                  from actions a join tasks t on t.key = a.task {conditions.where} and a.parked = 1 group by a.replay
                ) p where replays.id = p.id
                """,
                conditions.values,
            )
            return matched(connection, replay, _take_up(connection, conditions, replay, rate, now))

        return await self._write(work)

    async def candidates(self, wanted: Selection) -> list[Candidate]:
        """The ended tasks of a selection, oldest first, with what they owed before."""

        def work(connection: sqlite3.Connection) -> list[Candidate]:
            conditions = Conditions()
            conditions.add("t.confirmed = 1")
            narrow(conditions, wanted, "e.at")
            if wanted.action_state:
                states = marks(wanted.action_state)
                conditions.add(
                    f"exists (select 1 from actions a where a.event = e.key and a.state in ({states}))",
                    *wanted.action_state,
                )
            rows = connection.execute(
                f"""
                select t.*, e.key as event,
                  coalesce((select max(generation) from actions where event = e.key), 0) as generation,
                  (select group_concat(distinct name) from actions where event = e.key) as names,
                  (select group_concat(distinct name) from actions
                   where event = e.key and state in ('owed', 'running')) as underway
                from events e join tasks t on t.key = e.task {conditions.where} order by e.key
                """,
                conditions.values,
            ).fetchall()
            return [
                Candidate(
                    task=task_of(row),
                    event=row["event"],
                    generation=row["generation"],
                    present=frozenset((row["names"] or "").split(",")),
                    underway=frozenset((row["underway"] or "").split(",")),
                )
                for row in rows
            ]

        return await self._read(work)

    async def owe_anew(
        self,
        mode: ReplayMode,
        owed: list[tuple[Candidate, int, list[OwedAction]]],
        note: JsonObject,
        rate: float | None,
        now: float,
    ) -> Replay:
        """New actions for events that are long recorded, each candidate with its generation.

        The same `again` within a few seconds is the same button pressed twice: it is answered with the first one.
        """

        def work(connection: sqlite3.Connection) -> Replay:
            pressed = _pressed(connection, note, rate, now) if mode is ReplayMode.AGAIN else None
            if pressed is not None:
                return _replay_of(connection, pressed)
            replay = begin(connection, mode, note, rate, now)
            written = 0
            for candidate, generation, actions in owed:
                due = now + written * spacing(rate)
                written += owe(
                    connection, candidate.event, candidate.task.key, actions, due, generation=generation, replay=replay
                )
            return matched(connection, replay, written)

        return await self._write(work)

    async def replay(self, replay_id: int) -> Replay | None:
        """A replay and how far it is."""

        def work(connection: sqlite3.Connection) -> Replay | None:
            row = _row(connection, replay_id)
            return _replay_of(connection, row) if row else None

        return await self._read(work)

    async def cancel_replay(self, replay_id: int, now: float) -> Replay | None:
        """What a replay has not begun is as it was before it; what runs, ends. None when there is no such replay."""

        def work(connection: sqlite3.Connection) -> Replay | None:
            parked = connection.execute(
                """
                update actions set state = coalesce(before_replay, 'skipped'), due_at = null, settled_at = ?,
                  reason = 'its replay was cancelled', parked = 1
                where replay = ? and state = 'owed' and attempts = 0 returning event
                """,
                (now, replay_id),
            ).fetchall()
            for event in {row["event"] for row in parked}:
                release_waiting(connection, event, now)
            connection.execute(
                "update replays set cancelled_at = coalesce(cancelled_at, ?) where id = ?", (now, replay_id)
            )
            row = _row(connection, replay_id)
            return _replay_of(connection, row) if row else None

        return await self._write(work)

    async def resume_replay(self, replay_id: int, now: float) -> Replay | None:
        """What the replay's cancellation stopped is owed again, at its rate. None when there is no such replay."""

        def work(connection: sqlite3.Connection) -> Replay | None:
            row = _row(connection, replay_id)
            if row is None:
                return None
            conditions = Conditions()
            conditions.add("a.replay = ? and a.parked = 1", replay_id)
            conditions.add(CONFIGURED)
            conditions.among("a.state", rules.REPLAYABLE)
            _take_up(connection, conditions, replay_id, row["rate"], now)
            connection.execute("update replays set cancelled_at = null where id = ?", (replay_id,))
            return _replay_of(connection, row)

        return await self._write(work)

    async def replays(self, wanted: Filter) -> Page[Replay]:
        """A page of replays, newest first."""

        def work(connection: sqlite3.Connection) -> Page[Replay]:
            conditions = Conditions()
            if wanted.since is not None:
                conditions.add("created_at >= ?", wanted.since)
            if wanted.until is not None:
                conditions.add("created_at < ?", wanted.until)
            if wanted.cursor is not None:
                conditions.add("id < ?", wanted.cursor)
            rows = connection.execute(
                f"select * from replays {conditions.where} order by id desc limit ?",
                (*conditions.values, wanted.limit + 1),
            ).fetchall()
            return page_of(rows, wanted.limit, lambda row: _replay_of(connection, row), "id")

        return await self._read(work)


def _take_up(
    connection: sqlite3.Connection, conditions: Conditions, replay: int, rate: float | None, now: float
) -> int:
    """The chosen actions are owed with a fresh budget of tries. How many they are.

    Those whose forerunners are on their way wait for them, as they did the first time.
    """
    taken = connection.execute(
        f"""
        update actions set state = 'owed', attempts = 0, crashes = 0, settled_at = null, held = 0, parked = 0,
          reason = null, before_replay = actions.state, replay = ?, due_at = ? + p.place * ?
        from (
          select a.id, row_number() over (order by a.id) - 1 as place
          from actions a join tasks t on t.key = a.task {conditions.where}
        ) p where actions.id = p.id
        """,
        (replay, now, spacing(rate), *conditions.values),
    ).rowcount
    connection.execute(
        f"""
        update actions set due_at = null
        where replay = ? and +state = 'owed' and attempts = 0 and after <> '[]'
          and exists ({FORERUNNERS} and f.state in ('owed', 'running'))
        """,
        (replay,),
    )
    return taken


def spacing(rate: float | None) -> float:
    return 1.0 / rate if rate else 0.0


def begin(connection: sqlite3.Connection, mode: ReplayMode, note: JsonObject, rate: float | None, now: float) -> int:
    row = connection.execute(
        "insert into replays (mode, filter, rate, created_at, matched) values (?, ?, ?, ?, 0) returning id",
        (mode, encode(note), rate, now),
    ).fetchone()
    return int(row["id"])


def matched(connection: sqlite3.Connection, replay: int, count: int) -> Replay:
    row = connection.execute("update replays set matched = ? where id = ? returning *", (count, replay)).fetchone()
    return _replay_of(connection, row)


def _row(connection: sqlite3.Connection, replay: int) -> sqlite3.Row | None:
    row: sqlite3.Row | None = connection.execute("select * from replays where id = ?", (replay,)).fetchone()
    return row


def _pressed(connection: sqlite3.Connection, note: JsonObject, rate: float | None, now: float) -> sqlite3.Row | None:
    """The `again` of a moment ago that is the same and was not cancelled."""
    row: sqlite3.Row | None = connection.execute(
        """
        select * from replays where mode = 'again' and filter = ? and rate is ? and created_at > ?
          and cancelled_at is null order by id desc limit 1
        """,
        (encode(note), rate, now - rules.PRESSED_TWICE),
    ).fetchone()
    return row


def _action_conditions(wanted: Selection) -> Conditions:
    conditions = Conditions()
    if wanted.action is not None:
        conditions.add("a.id = ?", wanted.action)
    if wanted.name is not None:
        conditions.add("a.name = ?", wanted.name)
    states = [state for state in wanted.action_state or ("dead",) if state in rules.REPLAYABLE]
    conditions.among("a.state", states) if states else conditions.add("0")
    conditions.add(CONFIGURED)
    narrow(conditions, wanted, "a.created_at")
    return conditions


def narrow(conditions: Conditions, wanted: Selection, time: str) -> None:
    conditions.among("t.state", wanted.task_state)
    if wanted.task is not None:
        conditions.add("t.id = ?", wanted.task)
    if wanted.since is not None:
        conditions.add(f"{time} >= ?", wanted.since)
    if wanted.until is not None:
        conditions.add(f"{time} < ?", wanted.until)


def _replay_of(connection: sqlite3.Connection, row: sqlite3.Row) -> Replay:
    open_count, parked, dead, finished_at = connection.execute(
        """
        select coalesce(sum(state in ('owed', 'running')), 0), coalesce(sum(parked), 0),
          coalesce(sum(state = 'dead' and not parked), 0), max(settled_at)
        from actions where replay = ?
        """,
        (row["id"],),
    ).fetchone()
    cancelled = parked + row["dropped"]
    state = "running" if open_count else "cancelled" if cancelled else "done"
    return Replay(
        id=row["id"],
        mode=ReplayMode(row["mode"]),
        filter=decode(row["filter"]),
        rate=row["rate"],
        created_at=row["created_at"],
        matched=row["matched"],
        done=row["matched"] - open_count - cancelled,
        dead=dead,
        cancelled=cancelled,
        state=state,
        finished_at=None if open_count else finished_at or row["created_at"],
    )
