"""Deliveries: what was posted to our callback URLs, kept raw. Recording one is the hot path of the whole program."""

import sqlite3

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.entries import Claim, NewDelivery, Recorded
from receiver.model.records import Delivery, End, Filter, Page, Purpose, Task, TaskState
from receiver.store.ledger.access import Access, count_up, delivery_of, page_of
from receiver.store.ledger.tasks import close_miss, task_conditions

SELECT = "select d.*, t.id as task_id from deliveries d join tasks t on t.key = d.task"


class Deliveries(Access):
    async def record_delivery(self, new: NewDelivery, now: float) -> Recorded | None:
        """Keeps a callback and makes its task due, in one transaction. None when there is no such task."""
        return await self._write_new(lambda connection: _record(connection, new, now))

    async def claims(self, task: Task) -> list[Claim]:
        """The readable deliveries of a task that do not contradict its provider id, newest first."""

        def work(connection: sqlite3.Connection) -> list[Claim]:
            rows = connection.execute(
                """
                select id, purpose, provider_task_id, claim from deliveries
                where task = ? and problem is null and contradicting = 0 order by last_at desc, id desc limit ?
                """,
                (task.key, rules.DELIVERY_BODIES),
            ).fetchall()
            return [
                Claim(
                    delivery=row["id"],
                    purpose=Purpose(row["purpose"]),
                    provider_task_id=row["provider_task_id"],
                    claim=End(row["claim"]) if row["claim"] else None,
                )
                for row in rows
            ]

        return await self._read(work)

    async def contradict(self, delivery: int) -> None:
        """The delivery is about another task than its token's: it is kept, and changes nothing."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute("update deliveries set contradicting = 1 where id = ?", (delivery,))
            connection.execute(
                """
                update tasks set delivered_at =
                  (select min(received_at) from deliveries where task = tasks.key and contradicting = 0)
                where key = (select task from deliveries where id = ?)
                """,
                (delivery,),
            )

        await self._write(work)

    async def deliveries(self, wanted: Filter) -> Page[Delivery]:
        """A page of deliveries, newest first; state is readable, unreadable or contradicting."""

        def work(connection: sqlite3.Connection) -> Page[Delivery]:
            conditions = task_conditions(_without_state(wanted))
            if wanted.state:
                conditions.add(f"({' or '.join(_STATES[state] for state in wanted.state if state in _STATES) or '0'})")
            if wanted.cursor is not None:
                conditions.add("d.id < ?", wanted.cursor)
            rows = connection.execute(
                f"{SELECT} {conditions.where} order by d.id desc limit ?", (*conditions.values, wanted.limit + 1)
            ).fetchall()
            return page_of(rows, wanted.limit, delivery_of, "id")

        return await self._read(work)

    async def delivery_body(self, delivery: int) -> bytes | None:
        """A delivery's raw bytes, as far as they were kept."""

        def work(connection: sqlite3.Connection) -> bytes | None:
            row = connection.execute("select body from deliveries where id = ?", (delivery,)).fetchone()
            return bytes(row["body"]) if row else None

        return await self._read(work)


_STATES = {"readable": "d.problem is null", "unreadable": "d.problem is not null", "contradicting": "d.contradicting"}


def _without_state(wanted: Filter) -> Filter:
    return replace(wanted, state=())


def _record(connection: sqlite3.Connection, new: NewDelivery, now: float) -> Recorded | None:
    task = connection.execute(
        """
        select key, state, provider_task_id, bodies, delivered_at, queried_at, check_at, confirmed, miss
        from tasks where id = ?
        """,
        (new.task,),
    ).fetchone()
    if task is None:
        return None
    stored_id = task["provider_task_id"]
    contradicting = None not in (stored_id, new.provider_task_id) and stored_id != new.provider_task_id
    duplicate = _keep(connection, task, new, now, contradicting=contradicting)
    count_up(connection, "callbacks_repeated" if duplicate else "callbacks_received")
    if contradicting:
        return Recorded(duplicate=duplicate, due=False)
    return Recorded(duplicate=duplicate, due=_arrived(connection, task, now))


def _keep(
    connection: sqlite3.Connection, task: sqlite3.Row, new: NewDelivery, now: float, *, contradicting: bool
) -> bool:
    """Stores the bytes, or counts them when they are here already or too many others are. True for a duplicate."""
    repeated = connection.execute(
        "update deliveries set count = count + 1, last_at = ? where task = ? and purpose = ? and digest = ?",
        (now, task["key"], new.purpose, new.digest),
    ).rowcount
    if repeated:
        return True
    if task["bodies"] >= rules.DELIVERY_BODIES:
        connection.execute("update tasks set bodies_over = bodies_over + 1 where key = ?", (task["key"],))
        return False
    connection.execute(
        """
        insert into deliveries (task, purpose, digest, received_at, last_at, size, provider_task_id, claim, problem,
          contradicting, body)
        values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        """,
        (
            task["key"],
            new.purpose,
            new.digest,
            now,
            now,
            new.size,
            new.provider_task_id,
            new.claim,
            new.problem,
            contradicting,
            new.body,
        ),
    )
    connection.execute("update tasks set bodies = bodies + 1 where key = ?", (task["key"],))
    return False


def _arrived(connection: sqlite3.Connection, task: sqlite3.Row, now: float) -> bool:
    """The callback of this task is here: it is due now, or soon if it was asked about a moment ago."""
    first = task["delivered_at"] is None
    if first:
        connection.execute("update tasks set delivered_at = ? where key = ?", (now, task["key"]))
    if task["miss"] is not None:
        close_miss(connection, task["key"], now)
    if task["confirmed"] or task["state"] == TaskState.QUEUED:
        return False
    due = now if first else max(now, (task["queried_at"] or 0.0) + rules.QUERY_SPACING)
    connection.execute(
        "update tasks set check_at = min(coalesce(check_at, ?), ?) where key = ?", (due, due, task["key"])
    )
    return True
