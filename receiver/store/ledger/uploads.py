"""Uploads: which of our files the provider has, under what link and name, and what stands for them in orders."""

from collections.abc import Iterable, Mapping

from receiver.model.records import JsonObject, Task, Upload
from receiver.store.ledger.access import admits, encode, marks, reads, record, writes
from receiver.store.ledger.tasks import input_columns
from receiver.store.ledger.transaction import Transaction


@admits
def add_upload(tx: Transaction, upload: Upload) -> None:
    """Keeps an upload; of the same bytes the newest one counts."""
    tx.change(
        """
        insert into uploads (id, name, type, size, sha256, url, file_name, at, site) values (?, ?, ?, ?, ?, ?, ?, ?, ?)
        on conflict (id) do update set name = excluded.name, type = excluded.type, size = excluded.size,
          sha256 = excluded.sha256, url = excluded.url, file_name = excluded.file_name, at = excluded.at,
          site = excluded.site
        """,
        *(upload.id, upload.name, upload.type, upload.size, upload.sha256, upload.url),
        *(upload.file_name, upload.at, upload.site),
    )


@reads
def uploads(tx: Transaction, ids: Iterable[str]) -> dict[str, Upload]:
    """Those of the uploads that there are, however old, by id."""
    wanted = list(ids)
    rows = tx.all(f"select * from uploads where id in ({marks(wanted)})", *wanted) if wanted else []
    return {row["id"]: record(Upload, row) for row in rows}


@writes
def forget_uploads(tx: Transaction, before: float) -> int:
    """Drops the uploads that were made before, in seconds since 1970. Returns how many."""
    return tx.change("delete from uploads where at < ?", before)


@writes
def replace_uploads(tx: Transaction, task: Task, input: JsonObject, uploads: Mapping[str, str]) -> None:
    """A task that is about to be sent gets the input that is sent: with today's texts for its uploads."""
    tx.change(
        """
        update tasks set input = ?, input_start = ?, input_size = ?, uploads = ?
        where key = ? and state = 'submitting'
        """,
        *(*input_columns(input), encode(uploads), task.key),
    )
