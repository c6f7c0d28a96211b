"""Events: how tasks ended. An event and the actions it owes are written in one transaction, whoever tells it."""

import sqlite3
from collections.abc import Sequence

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.entries import NewEvent, OwedAction, Telling
from receiver.model.records import ActionState, End, Event, Filter, Page, Result, SavedFile, Task, TaskState, event_id
from receiver.store.ledger.access import Access, encode, event_of, marks, page_of
from receiver.store.ledger.alerts import open_alert
from receiver.store.ledger.tasks import task_conditions

FORERUNNERS = """
select 1 from actions f
where f.event = actions.event and f.name in (select value from json_each(actions.after)) and f.generation = (
  select max(g.generation) from actions g
  where g.event = f.event and g.name = f.name and g.generation <= actions.generation)
"""
"""What an action of the table `actions` comes after; to be narrowed by the state."""
SELECT = "select e.*, t.id as task_id from events e join tasks t on t.key = e.task"


class Events(Access):
    async def record_event(self, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
        """Writes how a task ended and what that owes, once; a later telling confirms it, contradicts it or is known.

        When a callback URL was sent and no callback came, the task stays due, so that the callback is looked for.
        """
        return await self._write(lambda connection: _record(connection, new, owed, now))

    async def refresh_results(self, task: Task, results: Sequence[Result]) -> None:
        """New links for the results of an ended task, in place of links that died."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("update events set results = ? where task = ?", (encode(results), task.key))
            connection.execute("update tasks set refresh = 2 where key = ?", (task.key,))

        await self._write(work)

    async def event(self, task_id: str) -> Event | None:
        """The event of a task, by the task's public id, with the files that were saved."""

        def work(connection: sqlite3.Connection) -> Event | None:
            row = connection.execute(f"{SELECT} where t.id = ?", (task_id,)).fetchone()
            return with_files(connection, row) if row else None

        return await self._read(work)

    async def events(self, wanted: Filter) -> Page[Event]:
        """A page of events, newest first; state is how the task ended."""

        def work(connection: sqlite3.Connection) -> Page[Event]:
            conditions = task_conditions(replace(wanted, state=(), since=None, until=None))
            conditions.among("e.state", wanted.state)
            if wanted.since is not None:
                conditions.add("e.at >= ?", wanted.since)
            if wanted.until is not None:
                conditions.add("e.at < ?", wanted.until)
            if wanted.cursor is not None:
                conditions.add("e.key < ?", wanted.cursor)
            rows = connection.execute(
                f"{SELECT} {conditions.where} order by e.key desc limit ?", (*conditions.values, wanted.limit + 1)
            ).fetchall()
            return page_of(rows, wanted.limit, lambda row: with_files(connection, row), "key")

        return await self._read(work)

    async def files(self, task_id: str) -> list[SavedFile]:
        """The files that were saved for a task."""

        def work(connection: sqlite3.Connection) -> list[SavedFile]:
            rows = connection.execute(
                "select f.* from files f join tasks t on t.key = f.task where t.id = ? order by f.result, f.path",
                (task_id,),
            ).fetchall()
            return [
                SavedFile(result=row["result"], path=row["path"], sha256=row["sha256"], size=row["size"])
                for row in rows
            ]

        return await self._read(work)


def with_files(connection: sqlite3.Connection, row: sqlite3.Row) -> Event:
    """An event whose results name the files they were saved under."""
    event = event_of(row)
    saved = dict(
        connection.execute(
            "select result, min(path) from files where task = ? group by result", (row["task"],)
        ).fetchall()
    )
    results = [replace(result, file=saved.get(index)) for index, result in enumerate(event.results)]
    return replace(event, results=results)


def release_waiting(connection: sqlite3.Connection, event: int, now: float) -> None:
    """Actions whose forerunners are done, and which nothing holds, become due.

    A forerunner is the newest of its name that is no newer than the action itself: a new generation waits for what an
    earlier one still owes.
    """
    # The plus keeps the planner from going through everything that is owed instead of through one event.
    connection.execute(
        f"""
        update actions set due_at = ?
        where event = ? and +state = 'owed' and due_at is null and held = 0
          and not exists ({FORERUNNERS} and f.state not in ('done', 'skipped'))
        """,
        (now, event),
    )


def _record(connection: sqlite3.Connection, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
    known = connection.execute("select * from events where task = ?", (new.task.key,)).fetchone()
    if known is None:
        return _record_first(connection, new, owed, now)
    if known["confirmed"] or not new.confirmed:
        return Telling.KNOWN
    if known["state"] == new.state:
        return _confirm(connection, known, new, now)
    return _contradict(connection, known, new, owed, now)


def _record_first(connection: sqlite3.Connection, new: NewEvent, owed: Sequence[OwedAction], now: float) -> Telling:
    if not _move(connection, new, now):
        return Telling.ILLEGAL
    row = connection.execute(
        """
        insert into events (id, task, state, source, confirmed, no_results, at, results, error, usage, extra)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) returning key
        """,
        (
            event_id(new.task.id),
            new.task.key,
            new.state,
            new.source,
            new.confirmed,
            new.no_results,
            now,
            *_content(new),
        ),
    ).fetchone()
    owe(connection, row["key"], new.task.key, owed, now)
    _watch(connection, new, now)
    return Telling.NEW


def _confirm(connection: sqlite3.Connection, known: sqlite3.Row, new: NewEvent, now: float) -> Telling:
    connection.execute(
        "update events set confirmed = 1, no_results = ?, results = ?, error = ?, usage = ?, extra = ? where key = ?",
        (new.no_results, *_content(new), known["key"]),
    )
    connection.execute("update tasks set confirmed = 1 where key = ?", (new.task.key,))
    connection.execute("update actions set held = 0 where event = ?", (known["key"],))
    release_waiting(connection, known["key"], now)
    _watch(connection, new, now)
    return Telling.CONFIRMED


def _contradict(
    connection: sqlite3.Connection, known: sqlite3.Row, new: NewEvent, owed: Sequence[OwedAction], now: float
) -> Telling:
    """The provider denies what an unconfirmed callback claimed: the state follows it, nothing is undone."""
    if not _move(connection, new, now):
        return Telling.ILLEGAL
    connection.execute(
        """
        update events set state = ?, confirmed = 1, contradicted = 1, no_results = ?, results = ?, error = ?, usage = ?,
          extra = ? where key = ?
        """,
        (new.state, new.no_results, *_content(new), known["key"]),
    )
    # What waited for certainty is owed for the true end too, or was owed for the false one alone.
    names = [action.name for action in owed if not action.held]
    connection.execute(
        f"update actions set held = 0 where event = ? and +state = 'owed' and name in ({marks(names)})",
        (known["key"], *names),
    )
    connection.execute(
        """
        update actions set state = 'skipped', settled_at = ?, due_at = null, reason = 'the provider denied the callback'
        where event = ? and +state = 'owed' and held = 1
        """,
        (now, known["key"]),
    )
    owe(connection, known["key"], new.task.key, owed, now)
    message = f"a callback claimed that task {new.task.id} had {known['state']}; the provider says {new.state}"
    open_alert(connection, "event_contradicted", new.task.id, message, now)
    _watch(connection, new, now)
    return Telling.CONTRADICTED


def _move(connection: sqlite3.Connection, new: NewEvent, now: float) -> bool:
    """The task's own move to its end; False when the table of moves does not allow it."""
    allowed = (new.only_from,) if new.only_from else rules.sources(TaskState(new.state))
    moved = connection.execute(
        f"""
        update tasks set state = ?, ended_at = coalesce(ended_at, ?), error = ?, confirmed = ?
        where key = ? and state in ({marks(allowed)})
        """,
        (new.state, now, encode(new.error) if new.error else None, new.settled, new.task.key, *allowed),
    ).rowcount
    return bool(moved)


def _watch(connection: sqlite3.Connection, new: NewEvent, now: float) -> None:
    """After the end: look for the callback that should have come, ask on while the end is unconfirmed, or rest."""
    if not new.settled:
        connection.execute("update tasks set check_at = ? where key = ?", (now + rules.UNSURE_REST, new.task.key))
        return
    connection.execute("update tasks set miss = null, check_at = null where key = ?", (new.task.key,))
    if new.state is End.CANCELLED:
        # Nothing says that a cancelled task calls back, so its silence is no miss.
        return
    connection.execute(
        """
        update tasks set miss = 'watching', check_at = ?
        where key = ? and callback and delivered_at is null and provider_task_id is not null
        """,
        (now, new.task.key),
    )


def owe(
    connection: sqlite3.Connection,
    event: int,
    task: int,
    owed: Sequence[OwedAction],
    now: float,
    *,
    generation: int = 1,
    replay: int | None = None,
) -> int:
    """Writes the actions an event owes; one that is there already stays as it is. Returns how many are new."""
    written = 0
    for action in owed:
        written += connection.execute(
            """
            insert into actions (task, event, name, generation, state, held, after, created_at, replay)
            values (?, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (event, name, generation) do nothing
            """,
            (
                task,
                event,
                action.name,
                generation,
                ActionState.OWED,
                action.held,
                encode(action.after),
                now,
                replay,
            ),
        ).rowcount
    release_waiting(connection, event, now)
    return written


def _content(new: NewEvent) -> tuple[str, str | None, str, str]:
    return (encode(new.results), encode(new.error) if new.error else None, encode(new.usage), encode(new.extra))
