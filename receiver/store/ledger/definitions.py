"""Definitions as the database knows them: paused or not, how fast they may go, whether their target is well."""

from collections.abc import Sequence

from receiver.model import breaker as breakers
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import Settlement
from receiver.model.records import AlertKind, Breaker, DefinitionState
from receiver.model.rules import RATE_BURST, REPLAY_SLICE
from receiver.store.ledger.access import count_up, encode, marks, reads, record, writes
from receiver.store.ledger.alerts import close_alert, is_alerted, open_alert
from receiver.store.ledger.owing import release_waiting
from receiver.store.ledger.pages import as_shown
from receiver.store.ledger.transaction import Row, Transaction

BREAKER = "failed, openings, open_until, trial, well_at"
LOOK_AGAIN = 1.0
"""Seconds between two looks while every place of a definition is taken: another node does not say when one is free."""


@writes
def sync_definitions(tx: Transaction, definitions: Sequence[Definition], now: float) -> None:
    """Writes down what is configured. What a missing definition owes is held, and alerted, until it is there again."""
    tx.change("update definitions set configured = 0")
    for each in definitions:
        _configure(tx, each, now)
        close_alert(tx, AlertKind.DEFINITION_MISSING, each.name, now)
    tx.change("update definitions set gone_at = coalesce(gone_at, ?) where configured = 0", now)
    for row in tx.all("select name from definitions where configured = 0"):
        close_alert(tx, AlertKind.BREAKER_OPEN, row["name"], now)
    _alert_orphans(tx, now)


@writes
def skip_orphans(tx: Transaction, gone_before: float, now: float) -> int:
    """Skips some of what definitions owe that went missing before a time. Returns how many actions; 0: it was all."""
    names = [row["name"] for row in tx.all("select name from definitions where gone_at < ?", gone_before)]
    skipped = tx.all(
        f"""
        update actions set state = 'skipped', settled_at = ?, due_at = null, reason = 'its definition is gone'
        where id in (select id from actions where state = 'owed' and name in ({marks(names)}) limit ?)
        returning id, event, (select t.id from tasks t where t.key = actions.task) as task_id
        """,
        *(now, *names, REPLAY_SLICE),
    )
    for row in skipped:
        tx.changed("action", row["id"], "skipped", task=row["task_id"])
    for event in {row["event"] for row in skipped}:
        release_waiting(tx, event, now)
    _alert_orphans(tx, now)
    return len(skipped)


def _alert_orphans(tx: Transaction, now: float) -> None:
    """One open alert for each missing definition of which actions wait."""
    for row in tx.all("select name from definitions where configured = 0"):
        kind, name = AlertKind.DEFINITION_MISSING, row["name"]
        waiting = count(tx, name, "owed")
        if not waiting:
            close_alert(tx, kind, name, now)
        elif not is_alerted(tx, kind, name):
            message = f"{name} is not in the settings, and {waiting} of its actions wait; they are skipped in a week"
            open_alert(tx, kind, name, message, now)


@writes
def set_paused(tx: Transaction, name: str, now: float, *, paused: bool) -> bool:
    """Pauses or resumes a definition; resuming closes its breaker. False when there is none of that name."""
    found = bool(tx.change("update definitions set paused = ? where name = ?", int(paused), name))
    if found and not paused:
        _keep(tx, name, breakers.CLOSED)
        close_alert(tx, AlertKind.BREAKER_OPEN, name, now)
    if found:
        tx.changed("definition", name, "paused" if paused else "running")
    return found


@reads
def definition_states(tx: Transaction) -> list[DefinitionState]:
    """Every definition that is or was configured, with its actions counted by state."""
    counts: dict[str, dict[str, int]] = {}
    for row in tx.all("select name, state, n from action_counts where n > 0"):
        counts.setdefault(row["name"], {})[row["state"]] = row["n"]

    def read(row: Row) -> DefinitionState:
        return record(DefinitionState, row, breaker=record(Breaker, row), counts=counts.get(row["name"], {}))

    return [as_shown(read, row) for row in tx.all("select * from definitions order by name")]


def count(tx: Transaction, name: str, state: str) -> int:
    """How many actions of a definition are in a state."""
    return tx.value("select n as value from action_counts where name = ? and state = ?", name, state) or 0


def find(tx: Transaction, name: str) -> Row | None:
    """What a claim goes by: the definition, how many of its actions run, and whether its trial does."""
    row: Row | None = tx.one(
        """
        select d.*, coalesce(c.n, 0) as running, (select 1 from actions a where a.id = d.trial and a.state = 'running')
          as trial_runs
        from definitions d left join action_counts c on c.name = d.name and c.state = 'running' where d.name = ?
        """,
        name,
    )
    return row


def ready_at(row: Row | None, now: float) -> float | None:
    """The earliest time at which a definition may begin an attempt; None while it is paused."""
    if row is None:
        return now
    if row["paused"]:
        return None
    if row["running"] >= row["concurrency"]:
        return now + LOOK_AGAIN
    breaker_at = breakers.ready_at(record(Breaker, row), now, trial_runs=bool(row["trial_runs"]))
    return max(breaker_at, _next_at(row, now) - RATE_BURST)


def _next_at(row: Row, now: float) -> float:
    """When the rate allows the next attempt. One that is further off than that is of a clock that was set back."""
    if row["rate"] is None:
        return now
    next_at: float = row["next_at"]
    return next_at if next_at <= now + 1 / row["rate"] + RATE_BURST else now


def note_begun(tx: Transaction, row: Row, action: int, now: float) -> None:
    """An attempt begins: its place in the rate is taken, and behind an open breaker it is the trial."""
    if row["rate"] is not None:
        next_at = max(_next_at(row, now), now) + 1 / row["rate"]
        tx.change("update definitions set next_at = ? where name = ?", next_at, row["name"])
    if row["open_until"] is not None:
        _keep(tx, row["name"], breakers.begun(record(Breaker, row), action))


def note_ended(tx: Transaction, name: str, action: int, settlement: Settlement, now: float) -> None:
    """An attempt ended: the breaker opens, stays or closes, and an alert with it."""
    row = tx.one(f"select {BREAKER}, breaker_limit from definitions where name = ?", name)
    if row is None:
        return
    before = record(Breaker, row)
    if settlement.outcome == "returned":
        after = breakers.given_back(before, action)
    elif settlement.unwell and row["breaker_limit"]:
        wait, silent = settlement.retry_after, settlement.silent
        after = breakers.failed(before, action, now, limit=row["breaker_limit"], retry_after=wait, silent=silent)
    else:
        after = breakers.well(before, now)
    if after == before:
        return
    _keep(tx, name, after)
    if after.openings > before.openings:
        count_up(tx, "breakers_opened")
        message = f"{len(after.failed)} actions of {name} failed in a row; until one succeeds, one at a time is tried"
        open_alert(tx, AlertKind.BREAKER_OPEN, name, message, now)
        tx.changed("definition", name, "breaker open")
    elif breakers.is_open(before) and not breakers.is_open(after):
        close_alert(tx, AlertKind.BREAKER_OPEN, name, now)
        tx.changed("definition", name, "running")


def _configure(tx: Transaction, definition: Definition, now: float) -> None:
    tx.change(
        """
        insert into definitions (name, kind, configured, rate, breaker_limit, concurrency) values (?, ?, 1, ?, ?, ?)
        on conflict (name) do update set kind = excluded.kind, configured = 1, gone_at = null, rate = excluded.rate,
          breaker_limit = excluded.breaker_limit, concurrency = excluded.concurrency
        """,
        *(definition.name, definition.kind, definition.rate, definition.breaker, definition.concurrency),
    )
    if not definition.breaker:
        _keep(tx, definition.name, breakers.CLOSED)
        close_alert(tx, AlertKind.BREAKER_OPEN, definition.name, now)


def _keep(tx: Transaction, name: str, breaker: Breaker) -> None:
    tx.change(
        "update definitions set failed = ?, openings = ?, open_until = ?, trial = ?, well_at = ? where name = ?",
        *(encode(breaker.failed), breaker.openings, breaker.open_until, breaker.trial, breaker.well_at, name),
    )


def is_expiring(row: Row | None) -> bool:
    """Whether what a definition's actions need dies with time: result links do."""
    return row is not None and row["kind"] == ActionKind.DOWNLOAD
