"""Checks: every exchange with the provider about a task, as evidence for the operator."""

import sqlite3

from receiver.model.entries import NewCheck
from receiver.model.records import Check
from receiver.store.ledger.access import Access, check_of

CHECKS_SHOWN = 200


class Checks(Access):
    async def add_check(self, task_id: str, check: NewCheck) -> None:
        """Keeps one exchange; its answer must have been redacted."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                insert into checks (task, kind, at, seconds, ok, summary, answer)
                select key, ?, ?, ?, ?, ?, ? from tasks where id = ?
                """,
                (check.kind, check.at, check.seconds, check.ok, check.summary, check.answer, task_id),
            )

        await self._write(work)

    async def checks(self, task_id: str) -> list[Check]:
        """The exchanges about a task, oldest first, the newest 200 at the most."""

        def work(connection: sqlite3.Connection) -> list[Check]:
            rows = connection.execute(
                """
                select c.*, t.id as task_id from checks c join tasks t on t.key = c.task
                where t.id = ? order by c.id desc limit ?
                """,
                (task_id, CHECKS_SHOWN),
            ).fetchall()
            return [check_of(row) for row in reversed(rows)]

        return await self._read(work)
