"""The audit: what people did. A deed is written with the first change that comes of it; see `access.writes`."""

from receiver.model.deeds import Deed, DeedRecord
from receiver.model.records import Filter, Page
from receiver.store.ledger.access import encode, reads, record, writes
from receiver.store.ledger.pages import Range, Table, page_of
from receiver.store.ledger.transaction import Transaction

TABLE = Table("audit", "at", "id")


@writes
def end_deed(tx: Transaction, deed: Deed, result: str) -> None:
    """Adds what was known only later: what came of it, how many rows it was about."""
    tx.change(
        "update audit set object = ?, filter = ?, count = ?, result = ? where id = ?",
        *(deed.object, encode(deed.filter), deed.count, result, deed.row),
    )


@reads
def audit(tx: Transaction, wanted: Filter) -> Page[DeedRecord]:
    """A page of deeds, newest first; `verb` is what was done."""
    which = Range(TABLE, "1 = 1") if wanted.verb is None else Range(TABLE, "verb = ?", (wanted.verb,))
    select = "select * from audit where id in ({keys})"
    return page_of(tx, [which], wanted, select, lambda row: record(DeedRecord, row))
