"""The queue: which task is sent next, who is sending it, and what its answer made of it.

A submission has a holder (a node) and a lease, as an action has: what another node sends is that node's affair.
"""

from collections.abc import Collection

from receiver.model import rules
from receiver.model.records import AlertKind, Task, TaskState
from receiver.store.ledger.access import count_up, fact, keep_fact, marks, reads, writes
from receiver.store.ledger.alerts import close_alerts_but, open_alert
from receiver.store.ledger.tasks import first_readable, known, known_of, set_state
from receiver.store.ledger.transaction import Transaction

PAUSED = "queue_paused_until"
KEY_USED = "key used "
"""The beginning of the facts about which key was used where; its fingerprint and the site follow."""
TOLD = "select 1 from alerts where kind = ? and subject = ? and message = ? and closed_at is null"
INTERRUPTED = "the server stopped while it was sent"
IN_DOUBT = """
state = 'in_doubt', holder = null, held_until = null,
check_at = case when delivered_at is null then cast(? as double precision) else sent_at end
"""
"""A delivery that came already is looked at at once."""


@writes
def take_queued_task(
    tx: Transaction,
    now: float,
    max_in_flight: int,
    *,
    callback: bool,
    node: str = rules.NODE,
    site: str | None = None,
) -> Task | None:
    """The oldest queued task, now `submitting` to a site by a node, under a lease of `rules.SUBMIT_PATIENCE`.

    None when the queue is empty, paused, or enough are in flight.
    """
    tx.lock("queue")
    if (fact(tx, PAUSED) or 0.0) > now or in_flight(tx, now, site) >= max_in_flight:
        return None
    oldest = "select * from tasks where state = 'queued' and aside = 0 order by key limit 1"
    task = first_readable(tx, lambda: tx.one(oldest), now)
    if task is None:
        return None
    send = """
    update tasks set state = 'submitting', sent_at = ?, callback = ?, holder = ?, held_until = ?, site = ?
    where key = ? returning *
    """
    tx.changed("task", task.id, "submitting", task=task.id)
    return known(tx.one(send, now, int(callback), node, now + rules.SUBMIT_PATIENCE, site, task.key))


@reads
def queue_resumes_at(tx: Transaction, now: float, max_in_flight: int, site: str | None = None) -> float | None:
    """When a queued task may be sent: None when none waits or when only an end in flight can make room."""
    if not tx.is_there("select 1 from tasks where state = 'queued' and aside = 0 limit 1"):
        return None
    if in_flight(tx, now, site) >= max_in_flight:
        doubt: float | None = tx.value("select min(sent_at) as value from tasks where state = 'in_doubt'")
        return None if doubt is None else doubt + rules.IN_DOUBT_COUNTS
    paused = fact(tx, PAUSED)
    return now if paused is None else paused


@writes
def mark_submitted(
    tx: Transaction, task: Task, provider_task_id: str, status: str, check_at: float, now: float
) -> bool:
    """The provider took the task. False when another task owns that provider id; then the task is in doubt.

    A callback may have come, and may even have ended the task, before this: then only the provider's id is added.
    Deliveries that named another id turn out to be contradicting.
    """
    if _is_anothers(tx, task.key, provider_task_id):
        set_state(tx, task.key, IN_DOUBT, now + rules.DOUBT_LOOK, among=(TaskState.SUBMITTING,), now=now)
        message = f"RunningHub gave task {task.id} an id that another task has; it is in doubt"
        open_alert(tx, AlertKind.ID_TAKEN, task.id, message, now)
        return False
    _set_provider_id(tx, task.key, provider_task_id)
    set_state(
        tx,
        task.key,
        """
        state = 'submitted', holder = null, held_until = null, provider_status = ?,
        check_at = case when delivered_at is null then cast(? as double precision) else ? end
        """,
        *(status, check_at, now),
        # The id ends a doubt too, and finds what was lost, however late it is written down.
        among=rules.sources(TaskState.SUBMITTED),
        now=now,
    )
    tx.change("update tasks set submitted_at = ? where key = ?", now, task.key)
    return True


@writes
def put_back(tx: Transaction, task: Task, pause_until: float, why: str = "") -> None:
    """Certainly not taken, and `why`: the task is queued again and the whole queue rests until `pause_until`."""
    set_state(
        tx,
        task.key,
        "state = 'queued', sent_at = null, holder = null, held_until = null",
        among=(TaskState.SUBMITTING,),
        told={"reason": why},
    )
    keep_fact(tx, PAUSED, pause_until)


@writes
def mark_in_doubt(tx: Transaction, task: Task, why: str, now: float) -> None:
    """Sent, and no answer says whether it was taken: `why` is the reason, in a few words."""
    if set_state(
        tx, task.key, IN_DOUBT, now + rules.DOUBT_LOOK, among=(TaskState.SUBMITTING,), now=now, told={"reason": why}
    ):
        _tell_doubt(tx, task.id, why, now)


@writes
def doubt_interrupted(tx: Transaction, now: float, *, node: str | None = None, in_hand: Collection[str] = ()) -> int:
    """What was being sent when its sender died is in doubt. Returns how many tasks that were.

    These are the submissions whose lease has ended; and all that a `node` held, when it is that node that starts anew.
    Those `in_hand` (ids) are being sent yet, whatever the clock says.
    """
    sending = list(in_hand) or [""]
    rows = tx.all(
        f"""
        update tasks set {IN_DOUBT} where state = 'submitting' and (held_until <= ? or holder = ?)
          and id not in ({marks(sending)})
        returning key, id, sent_at, target, provider_task_id
        """,
        *(now + rules.DOUBT_LOOK, now, node, *sending),
    )
    for row in rows:
        tx.changed("task", row["id"], "in_doubt", {**known_of(row), "reason": INTERRUPTED}, task=row["id"])
        tx.change(
            "insert into checks (task, kind, at, seconds, ok, summary) values (?, 'submit', ?, ?, 0, ?)",
            *(row["key"], row["sent_at"], max(0.0, now - row["sent_at"]), INTERRUPTED),
        )
        _tell_doubt(tx, row["id"], INTERRUPTED, now)
    return len(rows)


def _tell_doubt(tx: Transaction, task_id: str, why: str, now: float) -> None:
    message = f"task {task_id} was sent, and no answer says whether it was taken ({why}): it may be billed"
    open_alert(tx, AlertKind.TASK_IN_DOUBT, task_id, message, now)


@writes
def adopt(tx: Transaction, task: Task, provider_task_id: str, now: float) -> bool:
    """A task in doubt gets the provider id that was proven to be its own. False when another task owns it."""
    if _is_anothers(tx, task.key, provider_task_id):
        return False
    _set_provider_id(tx, task.key, provider_task_id)
    change = "state = 'submitted', submitted_at = coalesce(submitted_at, sent_at), check_at = ?"
    set_state(tx, task.key, change, now, among=rules.sources(TaskState.SUBMITTED), now=now)
    return True


@writes
def use_key(tx: Transaction, key: str, site: str, now: float) -> list[str]:
    """A key, by its fingerprint, is used at a site from now on. Returns all sites at which it ever was."""
    keep_fact(tx, f"{KEY_USED}{key} {site}", now)
    return sites_of(tx, key)


def sites_of(tx: Transaction, key: str) -> list[str]:
    """The sites at which a key was ever used, by its fingerprint."""
    begins = f"{KEY_USED}{key} "
    return [
        row["name"].removeprefix(begins) for row in tx.all("select name from facts where name like ?", begins + "%")
    ]


@writes
def tell_elsewhere(tx: Transaction, site: str, asked: Collection[str], now: float) -> None:
    """One open alert for each other site to which tasks were sent that have not ended; `asked` are those that are
    asked about them.
    """
    elsewhere = open_by_site(tx, but=site)
    close_alerts_but(tx, AlertKind.ELSEWHERE, tuple(elsewhere), now)
    for other, count in elsewhere.items():
        message = told_elsewhere(other, count, asked=other in asked)
        if not tx.is_there(TOLD, AlertKind.ELSEWHERE, other, message):
            open_alert(tx, AlertKind.ELSEWHERE, other, message, now)


def told_elsewhere(site: str, count: int, *, asked: bool) -> str:
    """What somebody should know who has tasks at another site than today's."""
    if asked:
        return f"{count} open tasks were sent to {site}, and are asked about there"
    why = f"{count} open tasks were sent to {site}, where today's API key was never used: they are not asked about"
    return f"{why}; set runninghub.base_url and runninghub.api_key back until they have ended"


def open_by_site(tx: Transaction, *, but: str) -> dict[str, int]:
    """How many tasks have not ended at each site but one."""
    rows = tx.all(
        """
        select site, count(*) as n from tasks
        where state in ('submitting', 'submitted', 'in_doubt') and site <> ? group by site
        """,
        but,
    )
    return {row["site"]: row["n"] for row in rows}


def in_flight(tx: Transaction, now: float, site: str | None = None) -> int:
    """How many tasks a site (None: any) may be working on. Those that are overdue count no more."""
    here = "" if site is None else "and coalesce(site, ?) = ?"
    count: int = tx.value(
        f"""
        select count(*) as value from tasks
        where ((state in ('submitting', 'submitted') and overdue = 0) or (state = 'in_doubt' and sent_at > ?)) {here}
        """,
        *(now - rules.IN_DOUBT_COUNTS, *([] if site is None else [site, site])),
    )
    return count


def _is_anothers(tx: Transaction, key: int, provider_task_id: str) -> bool:
    return tx.is_there("select 1 from tasks where provider_task_id = ? and key <> ?", provider_task_id, key)


def _set_provider_id(tx: Transaction, key: int, provider_task_id: str) -> None:
    taken = tx.one(
        "update tasks set provider_task_id = ? where key = ? and provider_task_id is null returning kind",
        *(provider_task_id, key),
    )
    if taken is not None:
        count_up(tx, f"tasks_submitted.{taken['kind']}")
    tx.change(
        """
        update deliveries set contradicting = 1
        where task = ? and provider_task_id is not null and provider_task_id <> ?
        """,
        *(key, provider_task_id),
    )
    tx.change(
        """
        update tasks set delivered_at =
          (select min(received_at) from deliveries where task = tasks.key and contradicting = 0)
        where key = ?
        """,
        key,
    )
