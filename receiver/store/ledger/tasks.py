"""The ledger of tasks: what was ordered, where it stands, and when it is looked at next."""

import sqlite3

from receiver.model import rules
from receiver.model.entries import Added, NewTask
from receiver.model.records import Filter, MissCause, MissState, Page, Task, TaskState
from receiver.store.ledger.access import (
    Access,
    Conditions,
    count_up,
    encode,
    like_prefix,
    marks,
    page_of,
    task_of,
)
from receiver.store.ledger.alerts import close_alert, open_alert


class Tasks(Access):
    async def add_task(self, order: NewTask, now: float) -> Added:
        """A new task, queued; or the task that was added before under the same idempotency key."""

        def work(connection: sqlite3.Connection) -> Added:
            if order.idempotency_key is not None:
                known = connection.execute(
                    "select * from tasks where idempotency_key = ?", (order.idempotency_key,)
                ).fetchone()
                if known is not None:
                    return Added(task=task_of(known), new=False, conflict=known["digest"] != order.digest)
            row = connection.execute(
                """
                insert into tasks
                  (id, kind, api, target, input, labels, state, created_at, idempotency_key, digest, again_of, uploads)
                values (?, ?, ?, ?, ?, ?, 'queued', ?, ?, ?, ?, ?) returning *
                """,
                (
                    order.id,
                    order.kind,
                    order.api,
                    order.target,
                    encode(order.input),
                    encode(order.labels),
                    now,
                    order.idempotency_key,
                    order.digest,
                    order.again_of,
                    encode(order.uploads) if order.uploads else None,
                ),
            ).fetchone()
            return Added(task=task_of(row), new=True)

        return await self._write_new(work)

    async def task(self, task_id: str) -> Task | None:
        """A task by its public id."""

        def work(connection: sqlite3.Connection) -> Task | None:
            row = connection.execute("select * from tasks where id = ?", (task_id,)).fetchone()
            return task_of(row) if row else None

        return await self._read(work)

    async def task_by_idempotency_key(self, idempotency_key: str) -> Task | None:
        """The task that was ordered under a key."""

        def work(connection: sqlite3.Connection) -> Task | None:
            row = connection.execute("select * from tasks where idempotency_key = ?", (idempotency_key,)).fetchone()
            return task_of(row) if row else None

        return await self._read(work)

    async def tasks(self, wanted: Filter) -> Page[Task]:
        """A page of tasks, newest first."""

        def work(connection: sqlite3.Connection) -> Page[Task]:
            conditions = task_conditions(wanted)
            if wanted.cursor is not None:
                conditions.add("t.key < ?", wanted.cursor)
            rows = connection.execute(
                f"select t.* from tasks t {conditions.where} order by t.key desc limit ?",
                (*conditions.values, wanted.limit + 1),
            ).fetchall()
            return page_of(rows, wanted.limit, task_of, "key")

        return await self._read(work)

    # ------------------------------------------------------------ the queue

    async def take_queued_task(self, now: float, max_in_flight: int, *, callback: bool) -> Task | None:
        """The oldest queued task, now `submitting`; None when the queue is empty, paused, or enough are in flight."""

        def work(connection: sqlite3.Connection) -> Task | None:
            paused = connection.execute("select value from facts where name = 'queue_paused_until'").fetchone()
            if paused is not None and paused["value"] > now:
                return None
            if in_flight(connection, now) >= max_in_flight:
                return None
            row = connection.execute(
                """
                update tasks set state = 'submitting', sent_at = ?, callback = ?
                where key = (select key from tasks where state = 'queued' order by key limit 1)
                returning *
                """,
                (now, callback),
            ).fetchone()
            return task_of(row) if row else None

        return await self._write(work)

    async def queue_resumes_at(self, now: float, max_in_flight: int) -> float | None:
        """When a queued task may be sent: None when none waits or when only an end in flight can make room."""

        def work(connection: sqlite3.Connection) -> float | None:
            waiting = connection.execute("select 1 from tasks where state = 'queued' limit 1").fetchone()
            if waiting is None:
                return None
            if in_flight(connection, now) >= max_in_flight:
                doubt = connection.execute("select min(sent_at) from tasks where state = 'in_doubt'").fetchone()[0]
                return None if doubt is None else float(doubt) + rules.IN_DOUBT_COUNTS
            paused = connection.execute("select value from facts where name = 'queue_paused_until'").fetchone()
            return float(paused["value"]) if paused else now

        return await self._read(work)

    async def mark_submitted(self, task: Task, provider_task_id: str, status: str, check_at: float, now: float) -> bool:
        """The provider took the task. False when another task owns that provider id; then the task is in doubt.

        A callback may have come, and may even have ended the task, before this: then only the provider's id is added.
        Deliveries that named another id turn out to be contradicting.
        """

        def work(connection: sqlite3.Connection) -> bool:
            if _owned_by_another(connection, task.key, provider_task_id):
                connection.execute(
                    "update tasks set state = 'in_doubt' where key = ? and state = 'submitting'", (task.key,)
                )
                return False
            _set_provider_id(connection, task.key, provider_task_id)
            connection.execute(
                """
                update tasks set state = 'submitted', provider_status = ?,
                  check_at = case when delivered_at is null then ? else ? end
                where key = ? and state = 'submitting'
                """,
                (status, check_at, now, task.key),
            )
            connection.execute("update tasks set submitted_at = ? where key = ?", (now, task.key))
            return True

        return await self._write(work)

    async def put_back(self, task: Task, pause_until: float) -> None:
        """Certainly not taken: the task is queued again and the whole queue rests until `pause_until`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "update tasks set state = 'queued', sent_at = null where key = ? and state = 'submitting'", (task.key,)
            )
            connection.execute(
                "insert into facts (name, value) values ('queue_paused_until', ?)"
                " on conflict (name) do update set value = excluded.value",
                (pause_until,),
            )

        await self._write(work)

    async def mark_in_doubt(self, task: Task, give_up_at: float) -> None:
        """Sent, answer lost. A delivery that came already is looked at at once, else nothing is until `give_up_at`."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                update tasks set state = 'in_doubt', check_at = case when delivered_at is null then ? else sent_at end
                where key = ? and state = 'submitting'
                """,
                (give_up_at, task.key),
            )

        await self._write(work)

    async def doubt_interrupted(self, sent_before: float, patience: float) -> int:
        """What was being sent by a process that died is in doubt. Returns how many tasks that were."""

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(
                """
                update tasks set state = 'in_doubt',
                  check_at = case when delivered_at is null then sent_at + ? else sent_at end
                where state = 'submitting' and sent_at <= ?
                """,
                (patience, sent_before),
            ).rowcount

        return await self._write(work)

    async def adopt(self, task: Task, provider_task_id: str, now: float) -> bool:
        """A task in doubt gets the provider id that was proven to be its own. False when another task owns it."""

        def work(connection: sqlite3.Connection) -> bool:
            if _owned_by_another(connection, task.key, provider_task_id):
                return False
            _set_provider_id(connection, task.key, provider_task_id)
            allowed = rules.sources(TaskState.SUBMITTED)
            connection.execute(
                f"""
                update tasks set state = 'submitted', submitted_at = coalesce(submitted_at, sent_at), check_at = ?
                where key = ? and state in ({marks(allowed)})
                """,
                (now, task.key, *allowed),
            )
            return True

        return await self._write(work)

    # ------------------------------------------------------------ reconciliation

    async def take_due_task(self, now: float, hold: float) -> Task | None:
        """The task that is due longest, pushed `hold` seconds away before anybody looks at it."""

        def work(connection: sqlite3.Connection) -> Task | None:
            row = connection.execute(
                """
                update tasks set check_at = ?, queried_at = ?
                where key = (select key from tasks where check_at <= ? order by check_at limit 1)
                returning *
                """,
                (now + hold, now, now),
            ).fetchone()
            return task_of(row) if row else None

        return await self._write(work)

    async def next_check_at(self) -> float | None:
        """When the next task is due, None when none ever is."""

        def work(connection: sqlite3.Connection) -> float | None:
            due: float | None = connection.execute(
                "select min(check_at) from tasks where check_at is not null"
            ).fetchone()[0]
            return due

        return await self._read(work)

    async def note_running(self, task: Task, status: str) -> None:
        """The provider knows the task and works on it; a task that was lost is found."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                update tasks set provider_status = ?,
                  state = case when state = 'lost' then 'submitted' else state end
                where key = ?
                """,
                (status, task.key),
            )

        await self._write(work)

    async def check_again(self, task: Task, at: float, *, unsure: bool = False) -> None:
        """Sets when a task is looked at next, and counts the question on its ladder.

        When somebody made the task due since it was taken, the earlier of the two times stands.
        """

        def work(connection: sqlite3.Connection) -> None:
            step = "unsure_asked = unsure_asked + 1" if unsure else "asked = asked + 1"
            connection.execute(
                f"""
                update tasks set {step},
                  check_at = case when check_at is ? then ? else min(coalesce(check_at, ?), ?) end
                where key = ?
                """,
                (task.check_at, at, at, at, task.key),
            )

        await self._write(work)

    async def hold_task(self, task_id: str, now: float, hold: float) -> Task | None:
        """A task by its public id, taken as if it were due: somebody asked. None when there is none."""

        def work(connection: sqlite3.Connection) -> Task | None:
            row = connection.execute(
                "update tasks set check_at = ?, queried_at = ? where id = ? returning *", (now + hold, now, task_id)
            ).fetchone()
            return task_of(row) if row else None

        return await self._write(work)

    async def note_empty(self, task: Task, now: float, check_at: float) -> None:
        """SUCCESS without results was seen once more."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                update tasks set empty_count = empty_count + 1, empty_since = coalesce(empty_since, ?), check_at = ?
                where key = ?
                """,
                (now, check_at, task.key),
            )

        await self._write(work)

    async def give_up(self, task: Task, now: float) -> None:
        """Nothing was heard for too long: an open task is lost. Any later telling revives it."""

        def work(connection: sqlite3.Connection) -> None:
            allowed = rules.sources(TaskState.LOST)
            connection.execute(
                "update tasks set check_at = null where key = ? and check_at is ?", (task.key, task.check_at)
            )
            lost = connection.execute(
                f"update tasks set state = 'lost' where key = ? and state in ({marks(allowed)})", (task.key, *allowed)
            ).rowcount
            if lost:
                open_alert(connection, "task_lost", task.id, f"nothing was heard of task {task.id}", now)

        await self._write(work)

    # ------------------------------------------------------------ missed callbacks

    async def stop_watching(self, task: Task) -> None:
        """Nothing more is looked for, unless somebody made the task due since it was taken."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "update tasks set check_at = null where key = ? and check_at is ?", (task.key, task.check_at)
            )

        await self._write(work)

    async def mark_missed(self, task: Task, cause: MissCause, now: float) -> bool:
        """The callback of an ended task is missed. Counted once, by cause. False when it came after all."""

        def work(connection: sqlite3.Connection) -> bool:
            unregistered = cause is MissCause.UNREGISTERED
            changed = connection.execute(
                """
                update tasks set miss = ?, miss_cause = ?, missed_at = ?
                where key = ? and delivered_at is null and miss = 'watching'
                """,
                (MissState.UNREGISTERED if unregistered else MissState.MISSED, cause, now, task.key),
            ).rowcount
            if changed:
                count_up(connection, "callbacks_missed")
                count_up(connection, f"callbacks_missed.{cause}")
                open_alert(connection, "callback_missed", cause, f"callbacks do not arrive: {cause.phrase}", now)
            return bool(changed)

        return await self._write(work)

    async def begin_resend(self, task: Task, now: float) -> float | None:
        """Writes down that a resend is about to be asked for. Returns None when it may be asked now, else when.

        Resends leave one by one, a second apart, so that a door that has just opened is not flooded.
        """

        def work(connection: sqlite3.Connection) -> float | None:
            row = connection.execute("select value from facts where name = 'resend_free_at'").fetchone()
            free_at = float(row["value"]) if row else now
            if free_at > now:
                connection.execute("update tasks set check_at = ? where key = ?", (free_at, task.key))
                return free_at
            connection.execute(
                "insert into facts (name, value) values ('resend_free_at', ?)"
                " on conflict (name) do update set value = excluded.value",
                (now + rules.RESEND_SPACING,),
            )
            connection.execute(
                """
                update tasks set resends = resends + 1, resent_at = ?,
                  check_at = case when miss = 'missed' then null else check_at end,
                  miss = case when miss = 'missed' then 'resent' else miss end
                where key = ?
                """,
                (now, task.key),
            )
            return None

        return await self._write(work)

    async def resend_failed(self, task: Task, retry_at: float | None) -> None:
        """The resend could not be asked for: the task is missed again, and tried at `retry_at` unless None."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                update tasks set miss = 'missed', check_at = ?
                where key = ? and miss = 'resent' and delivered_at is null
                """,
                (retry_at, task.key),
            )

        await self._write(work)


def close_miss(connection: sqlite3.Connection, key: int, now: float) -> None:
    """A delivery came for a task whose callback was looked for: the search ends, and the alert with the last one."""
    row = connection.execute("select miss, miss_cause from tasks where key = ?", (key,)).fetchone()
    if row["miss"] == MissState.WATCHING:
        connection.execute("update tasks set miss = null, check_at = null where key = ?", (key,))
    elif row["miss"] in (MissState.MISSED, MissState.RESENT):
        connection.execute("update tasks set miss = 'late', check_at = null where key = ?", (key,))
        count_up(connection, "callbacks_late")
        left = connection.execute(
            "select 1 from tasks where miss in ('missed', 'resent') and miss_cause is ? limit 1", (row["miss_cause"],)
        ).fetchone()
        if left is None:
            close_alert(connection, "callback_missed", row["miss_cause"] or "", now)


def in_flight(connection: sqlite3.Connection, now: float) -> int:
    """How many tasks the provider may be working on."""
    count: int = connection.execute(
        """
        select count(*) from tasks
        where state in ('submitting', 'submitted') or (state = 'in_doubt' and sent_at > ?)
        """,
        (now - rules.IN_DOUBT_COUNTS,),
    ).fetchone()[0]
    return count


def task_conditions(wanted: Filter) -> Conditions:
    """The conditions of a filter on `tasks t`, without its cursor."""
    conditions = Conditions()
    conditions.among("t.state", wanted.state)
    conditions.among("t.kind", wanted.kind)
    if wanted.target is not None:
        conditions.add("t.target = ?", wanted.target)
    if wanted.task is not None:
        conditions.add("t.id = ?", wanted.task)
    for name, value in wanted.label:
        conditions.add("exists (select 1 from json_each(t.labels) l where l.key = ? and l.value = ?)", name, value)
    if wanted.q is not None:
        prefix = like_prefix(wanted.q)
        conditions.add(
            """(t.id = ? or t.provider_task_id = ? or t.target like ? escape '\\'
              or exists (select 1 from json_each(t.labels) l where l.value like ? escape '\\'))""",
            wanted.q,
            wanted.q,
            prefix,
            prefix,
        )
    if wanted.since is not None:
        conditions.add("t.created_at >= ?", wanted.since)
    if wanted.until is not None:
        conditions.add("t.created_at < ?", wanted.until)
    return conditions


def _owned_by_another(connection: sqlite3.Connection, key: int, provider_task_id: str) -> bool:
    row = connection.execute(
        "select 1 from tasks where provider_task_id = ? and key != ?", (provider_task_id, key)
    ).fetchone()
    return row is not None


def _set_provider_id(connection: sqlite3.Connection, key: int, provider_task_id: str) -> None:
    connection.execute(
        "update tasks set provider_task_id = coalesce(provider_task_id, ?) where key = ?", (provider_task_id, key)
    )
    connection.execute(
        """
        update deliveries set contradicting = 1
        where task = ? and provider_task_id is not null and provider_task_id != ?
        """,
        (key, provider_task_id),
    )
    connection.execute(
        """
        update tasks set delivered_at =
          (select min(received_at) from deliveries where task = tasks.key and contradicting = 0)
        where key = ?
        """,
        (key,),
    )
