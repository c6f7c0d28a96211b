"""Secrets of the database's own. One that signs callback URLs and is replaced is accepted for a while."""

from receiver.model.rules import SECRET_KEPT
from receiver.store.ledger.access import fact, keep_fact, reads, writes
from receiver.store.ledger.transaction import Transaction

SIGNING = "link_secret"
"""The secret that signs. Those it replaced have a name that begins so, and the time at which they were replaced."""


EPOCH = "session_epoch"


@reads
def session_epoch(tx: Transaction) -> int:
    """Sessions of another epoch have ended."""
    return int(fact(tx, EPOCH) or 0)


@writes
def end_sessions(tx: Transaction) -> None:
    """Everybody is signed out everywhere."""
    keep_fact(tx, EPOCH, (fact(tx, EPOCH) or 0) + 1)


@writes
def secret(tx: Transaction, name: str, made: str) -> str:
    tx.change("insert into secrets (name, value) values (?, ?) on conflict (name) do nothing", name, made)
    kept: str = tx.value("select value from secrets where name = ?", name)
    return kept


@writes
def begin_signing(tx: Transaction, made: str, now: float, *, given: bool) -> None:
    """There is a secret to sign with; when others are `given` by the settings, they replace it from now on."""
    if given:
        tx.change("update secrets set replaced_at = ? where name = ? and replaced_at is null", now, SIGNING)
        return
    tx.change(
        "insert into secrets (name, value) values (?, ?) on conflict (name) do update set replaced_at = null",
        *(SIGNING, made),
    )


@writes
def rotate_signing(tx: Transaction, made: str, now: float) -> None:
    """Another secret signs from now on; those that no URL in flight needs are forgotten."""
    tx.change("delete from secrets where replaced_at <= ?", now - SECRET_KEPT)
    aside = f"{SIGNING} {now!r} {tx.value('select count(*) as value from secrets')}"
    tx.change("update secrets set name = ?, replaced_at = ? where name = ?", aside, now, SIGNING)
    tx.change("insert into secrets (name, value) values (?, ?)", SIGNING, made)


@reads
def signing_secrets(tx: Transaction, now: float) -> list[str]:
    """The secrets whose URLs are accepted, the newest first."""
    rows = tx.all(
        """
        select value from secrets where name like ? and (replaced_at is null or replaced_at > ?)
        order by coalesce(replaced_at, ?) desc
        """,
        *(f"{SIGNING}%", now - SECRET_KEPT, now + SECRET_KEPT),
    )
    return [row["value"] for row in rows]
