"""The public ids of tasks, as people type and read them: by a beginning that no other task's id has.

Ids begin with the time at which their tasks were made. So a beginning that is the whole time stays unique, but for
tasks of the same millisecond, and those are told apart by a few characters more.
"""

from collections.abc import Sequence
from itertools import takewhile

from receiver.model import rules
from receiver.model.errors import Refused
from receiver.model.records import Task
from receiver.store.ledger.access import reads
from receiver.store.ledger.pages import as_shown
from receiver.store.ledger.search import among_ids
from receiver.store.ledger.tasks import known, task_of
from receiver.store.ledger.transaction import Row, Transaction


@reads
def find_task(tx: Transaction, text: str) -> Task | None:
    """The task with this id, or with the one id that begins so. Raises Refused (409) when several do."""
    return known(_row(tx, "*", text))


@reads
def task_shown(tx: Transaction, text: str) -> Task | None:
    """The same for somebody who looks: a task that cannot be read says so."""
    row = _row(tx, "*", text)
    return None if row is None else as_shown(task_of, row)


@reads
def whole_id(tx: Transaction, text: str) -> str | None:
    """The one id that is this text or begins with it. Raises Refused (409) when several do."""
    row = _row(tx, "id", text)
    return None if row is None else str(row["id"])


@reads
def short_ids(tx: Transaction, ids: Sequence[str]) -> dict[str, str]:
    """By id, the beginning that no other task's id has, at least as long as the time in it."""
    before, after = "select max(id) from tasks where id < ?", "select min(id) from tasks where id > ?"
    beside = f"select ({before}) as before, ({after}) as after"
    return {each: _beginning(each, tx.one(beside, each, each)) for each in dict.fromkeys(ids)}


def _beginning(task_id: str, beside: Row) -> str:
    end = max(rules.ID_SHOWN, *(_shared(task_id, beside[place] or "") + 1 for place in ("before", "after")))
    # What ends with a hyphen reads as if something were missing.
    return task_id[: end + (task_id[end - 1 : end] == "-")]


def _shared(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


def _row(tx: Transaction, columns: str, text: str) -> Row | None:
    exact: Row | None = tx.one(f"select {columns} from tasks where id = ?", text)
    among = among_ids(text)
    if exact is not None or among is None:
        return exact
    select = "select id, state, target from tasks where id >= ? and id < ? order by id desc limit ?"
    found = tx.all(select, *among, rules.IDS_TOLD + 1)
    if len(found) > 1:
        raise _ambiguous(text, found)
    one: Row | None = tx.one(f"select {columns} from tasks where id = ?", found[0]["id"]) if found else None
    return one


def _ambiguous(text: str, found: Sequence[Row]) -> Refused:
    told = found[: rules.IDS_TOLD]
    count = len(found) if len(found) == len(told) else f"more than {len(told)}"
    message = f"the ids of {count} tasks begin with {text.strip()}; give more of it"
    return Refused(
        409,
        "ambiguous_id",
        message,
        [{"path": row["id"], "message": f"{row['state']}, {row['target']}"} for row in told],
    )
