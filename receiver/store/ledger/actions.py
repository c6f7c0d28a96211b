"""Actions: effects owed, claimed with a lease, settled with a fence, every try kept."""

import sqlite3
from collections.abc import Collection, Mapping, Sequence

from msgspec.structs import replace

from receiver.model import rules
from receiver.model.breaker import TRIAL_LOOK
from receiver.model.entries import Settlement
from receiver.model.records import (
    Action,
    ActionState,
    Attempt,
    Claimed,
    Filter,
    Page,
)
from receiver.store.ledger import definitions
from receiver.store.ledger.access import Access, action_of, count_up, decode, encode, marks, page_of, task_of
from receiver.store.ledger.alerts import close_alert, open_alert
from receiver.store.ledger.events import SELECT as SELECT_EVENT
from receiver.store.ledger.events import release_waiting, with_files
from receiver.store.ledger.tasks import task_conditions

SELECT = """
select a.*, t.id as task_id, e.id as event_id
from actions a join tasks t on t.key = a.task join events e on e.key = a.event
"""


class Actions(Access):
    async def claim_action(self, name: str, now: float, lease: float) -> Claimed | None:
        """The due action of a definition that waits longest, now running under a lease of `lease` seconds.

        None when nothing is due or the definition is paused. The fence that comes with it is good for one settlement.
        """
        return await self._write(lambda connection: _claim(connection, name, now, lease))

    async def renew_lease(self, claimed: Claimed, until: float) -> bool:
        """Prolongs a lease. False when the action is no longer in this worker's hands."""

        def work(connection: sqlite3.Connection) -> bool:
            return bool(
                connection.execute(
                    "update actions set lease_until = ? where id = ? and fence = ? and state = 'running'",
                    (until, claimed.action.id, claimed.fence),
                ).rowcount
            )

        return await self._write(work)

    async def settle_action(self, claimed: Claimed, settlement: Settlement, now: float) -> bool:
        """Ends a try. False when the lease went to somebody else meanwhile: then nothing changes."""
        return await self._write(lambda connection: _settle(connection, claimed, settlement, now))

    async def free_expired_leases(
        self,
        now: float,
        max_attempts: Mapping[str, int],
        in_hand: Collection[int] = (),
        gone: Collection[str] = (),
    ) -> int:
        """Actions whose worker died are owed again, or dead when that was their last try. Returns how many.

        Those `in_hand` (ids) have a worker that lives: the clock stepped, or nothing could be written for a while.
        Those of definitions whose workers are all `gone` need not wait for their leases.
        """
        held, dead = list(in_hand), list(gone)

        def work(connection: sqlite3.Connection) -> int:
            rows = connection.execute(
                f"""
                update actions set crashes = crashes + 1
                where state = 'running' and (lease_until <= ? or name in ({marks(dead)})) and id not in ({marks(held)})
                returning id, name, fence, attempts, crashes
                """,
                (now, *dead, *held),
            ).fetchall()
            for row in rows:
                connection.execute(
                    "update attempts set ended_at = ?, outcome = 'interrupted' where action = ? and number = ?",
                    (now, row["id"], row["fence"]),
                )
                if row["crashes"] >= rules.CRASHES:
                    _bury(connection, row["id"], row["name"], _crashed(row["crashes"]), now)
                elif row["attempts"] >= max_attempts.get(row["name"], 1):
                    _bury(connection, row["id"], row["name"], "its worker died during the last try", now)
                else:
                    connection.execute(
                        "update actions set state = 'owed', due_at = ?, lease_until = null where id = ?",
                        (now + rules.crash_delay(row["crashes"]), row["id"]),
                    )
            return len(rows)

        return await self._write(work)

    async def next_action_at(self, name: str, now: float) -> float | None:
        """When the next action of a definition may be tried, None when none is owed or the definition is paused."""
        return await self._read(lambda connection: _next_at(connection, name, now))

    async def action(self, action_id: int) -> Action | None:
        def work(connection: sqlite3.Connection) -> Action | None:
            row = connection.execute(f"{SELECT} where a.id = ?", (action_id,)).fetchone()
            return action_of(row) if row else None

        return await self._read(work)

    async def actions(self, wanted: Filter) -> Page[Action]:
        """A page of actions, newest first; name is the definition's."""

        def work(connection: sqlite3.Connection) -> Page[Action]:
            conditions = task_conditions(replace(wanted, state=(), since=None, until=None))
            conditions.among("a.state", wanted.state)
            if wanted.name is not None:
                conditions.add("a.name = ?", wanted.name)
            if wanted.since is not None:
                conditions.add("a.created_at >= ?", wanted.since)
            if wanted.until is not None:
                conditions.add("a.created_at < ?", wanted.until)
            if wanted.cursor is not None:
                conditions.add("a.id < ?", wanted.cursor)
            rows = connection.execute(
                f"{SELECT} {conditions.where} order by a.id desc limit ?", (*conditions.values, wanted.limit + 1)
            ).fetchall()
            return page_of(rows, wanted.limit, action_of, "id")

        return await self._read(work)

    async def attempts(self, action_id: int) -> list[Attempt]:
        """Every try of an action, oldest first."""

        def work(connection: sqlite3.Connection) -> list[Attempt]:
            rows = connection.execute(
                "select * from attempts where action = ? order by number", (action_id,)
            ).fetchall()
            return [
                Attempt(
                    number=row["number"],
                    started_at=row["started_at"],
                    ended_at=row["ended_at"],
                    outcome=row["outcome"],
                    detail=decode(row["detail"]),
                )
                for row in rows
            ]

        return await self._read(work)

    async def skip_action(self, action_id: int, reason: str, now: float) -> bool:
        """Cancels an action that is owed or dead. False when it is neither."""

        def work(connection: sqlite3.Connection) -> bool:
            allowed = rules.action_sources(ActionState.SKIPPED)
            connection.execute(
                f"""
                update replays set dropped = dropped + 1 where id = (
                  select replay from actions where id = ? and parked = 1 and state in ({marks(allowed)}))
                """,
                (action_id, *allowed),
            )
            row = connection.execute(
                f"""
                update actions set state = 'skipped', settled_at = ?, due_at = null, reason = ?, parked = 0
                where id = ? and state in ({marks(allowed)}) returning event, name
                """,
                (now, reason, action_id, *allowed),
            ).fetchone()
            if row is not None:
                release_waiting(connection, row["event"], now)
                _none_is_dead(connection, row["name"], now)
            return row is not None

        return await self._write(work)

    async def ask_for_new_links(self, claimed: Claimed, now: float) -> bool:
        """The result links are dead: the provider is asked once for new ones. False when it was asked already."""

        def work(connection: sqlite3.Connection) -> bool:
            return bool(
                connection.execute(
                    "update tasks set refresh = 1, check_at = ? where key = ? and refresh = 0",
                    (now, claimed.task.key),
                ).rowcount
            )

        return await self._write(work)

    async def unsaved_since(self, names: Sequence[str], before: float) -> list[tuple[str, int]]:
        """Definitions among `names` with unfinished actions for events before a time, each with how many."""

        def work(connection: sqlite3.Connection) -> list[tuple[str, int]]:
            rows = connection.execute(
                f"""
                select a.name, count(*) as n from actions a join events e on e.key = a.event
                where a.state in ('owed', 'running') and a.name in ({marks(names)}) and e.at < ? group by a.name
                """,
                (*names, before),
            ).fetchall()
            return [(row["name"], row["n"]) for row in rows]

        return await self._read(work)


FEW = 100
"""Due actions that are sorted in no time."""
CLAIMABLE = """
name = ? and state = 'owed' and due_at is not null and (crashes = 0 or not exists (
  select 1 from actions s where s.state = 'running' and s.crashes > 0))
"""
"""What a crash has hit is tried alone, so that the one that is to blame takes nobody with it again."""


def _next_at(connection: sqlite3.Connection, name: str, now: float) -> float | None:
    ready = definitions.ready_at(connection, definitions.find(connection, name), now)
    if ready is None:
        return None
    due: float | None = connection.execute(f"select min(due_at) from actions where {CLAIMABLE}", (name,)).fetchone()[0]
    if due is not None:
        return max(ready, due)
    suspect = connection.execute(
        "select 1 from actions where name = ? and state = 'owed' and due_at is not null limit 1", (name,)
    ).fetchone()
    return None if suspect is None else max(ready, now + TRIAL_LOOK)


def _claim(connection: sqlite3.Connection, name: str, now: float, lease: float) -> Claimed | None:
    definition = definitions.find(connection, name)
    ready = definitions.ready_at(connection, definition, now)
    if ready is None or ready > now:
        return None
    due, order = "due_at <= ?", "due_at, id"
    if definitions.is_expiring(definition):
        # A few are sorted; of many the first is looked up, and the plus keeps the planner from sorting them.
        due, order = "+due_at <= ?" if _are_many_due(connection, name, now) else due, "event, id"
    row = connection.execute(
        f"""
        update actions set state = 'running', lease_until = ?, fence = fence + 1, attempts = attempts + 1, parked = 0
        where id = (select id from actions where {CLAIMABLE} and {due} order by {order} limit 1)
        returning id, fence, task, event
        """,
        (now + lease, name, now),
    ).fetchone()
    if row is None:
        return None
    connection.execute(
        "insert into attempts (action, number, started_at) values (?, ?, ?)", (row["id"], row["fence"], now)
    )
    if definition is not None:
        definitions.note_begun(connection, definition, row["id"], now)
    return Claimed(
        action=action_of(connection.execute(f"{SELECT} where a.id = ?", (row["id"],)).fetchone()),
        fence=row["fence"],
        event=with_files(connection, connection.execute(f"{SELECT_EVENT} where e.key = ?", (row["event"],)).fetchone()),
        task=task_of(connection.execute("select * from tasks where key = ?", (row["task"],)).fetchone()),
    )


def _are_many_due(connection: sqlite3.Connection, name: str, now: float) -> bool:
    row = connection.execute(
        "select 1 from actions where name = ? and state = 'owed' and due_at <= ? limit 1 offset ?", (name, now, FEW)
    ).fetchone()
    return row is not None


def _settle(connection: sqlite3.Connection, claimed: Claimed, settlement: Settlement, now: float) -> bool:
    held = connection.execute(
        "select event, task from actions where id = ? and fence = ? and state = 'running'",
        (claimed.action.id, claimed.fence),
    ).fetchone()
    if held is None:
        return False
    connection.execute(
        "update attempts set ended_at = ?, outcome = ?, detail = ? where action = ? and number = ?",
        (now, settlement.outcome, encode(settlement.detail), claimed.action.id, claimed.fence),
    )
    definitions.note_ended(
        connection,
        claimed.action.name,
        claimed.action.id,
        now,
        outcome=settlement.outcome,
        unwell=settlement.unwell,
        wait=settlement.retry_after,
    )
    for file in settlement.files:
        connection.execute(
            "insert or replace into files (task, result, path, sha256, size) values (?, ?, ?, ?, ?)",
            (held["task"], file.result, file.path, file.sha256, file.size),
        )
    if settlement.outcome == "done":
        _finish(connection, claimed, held["event"], now)
    elif settlement.outcome == "dead":
        _bury(connection, claimed.action.id, claimed.action.name, settlement.reason or "", now)
    else:
        # A try that was given back, unfinished, does not count against its action. One that ended has killed nobody.
        back = 1 if settlement.outcome == "returned" else 0
        connection.execute(
            """
            update actions set state = 'owed', due_at = ?, lease_until = null, reason = ?, attempts = attempts - ?,
              crashes = crashes * ? where id = ?
            """,
            (settlement.due_at, settlement.reason, back, back, claimed.action.id),
        )
    return True


def _finish(connection: sqlite3.Connection, claimed: Claimed, event: int, now: float) -> None:
    connection.execute(
        """
        update actions set state = 'done', settled_at = ?, due_at = null, lease_until = null, reason = null
        where id = ?
        """,
        (now, claimed.action.id),
    )
    release_waiting(connection, event, now)
    _none_is_dead(connection, claimed.action.name, now)


def _none_is_dead(connection: sqlite3.Connection, name: str, now: float) -> None:
    """Closes the alert of a definition of whose actions none is dead any more."""
    dead = connection.execute("select 1 from actions where name = ? and state = 'dead' limit 1", (name,)).fetchone()
    if dead is None:
        close_alert(connection, "action_dead", name, now)


def _bury(connection: sqlite3.Connection, action: int, name: str, reason: str, now: float) -> None:
    connection.execute(
        "update actions set state = 'dead', settled_at = ?, due_at = null, lease_until = null, reason = ? where id = ?",
        (now, reason, action),
    )
    count_up(connection, "actions_dead")
    open_alert(connection, "action_dead", name, f"action {action} of {name} is dead: {reason}", now)


def _crashed(crashes: int) -> str:
    return f"its worker died {crashes} times while it ran; mend what kills it, then retry it"
