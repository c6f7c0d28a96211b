"""Checks: every exchange with the provider about a task, as evidence for the operator."""

from receiver.model.entries import NewCheck
from receiver.model.records import Check
from receiver.store.ledger.access import reads, record, writes
from receiver.store.ledger.pages import as_shown
from receiver.store.ledger.transaction import Transaction

CHECKS_SHOWN = 200


@writes
def add_check(tx: Transaction, task_id: str, check: NewCheck) -> None:
    """Keeps one exchange; its answer must have been redacted."""
    tx.change(
        """
        insert into checks (task, kind, at, seconds, ok, summary, answer)
        select key, ?, ?, ?, ?, ?, ? from tasks where id = ?
        """,
        *(check.kind, check.at, check.seconds, int(check.ok), check.summary, check.answer, task_id),
    )


@reads
def checks(tx: Transaction, task_id: str) -> list[Check]:
    """The exchanges about a task, oldest first, the newest 200 at the most."""
    rows = tx.all(
        "select * from checks where task = (select key from tasks where id = ?) order by id desc limit ?",
        *(task_id, CHECKS_SHOWN),
    )
    return [as_shown(lambda each: record(Check, each, task=task_id), row) for row in reversed(rows)]
