"""Uploads: which of our files the provider has, under what link and name, and what stands for them in orders."""

import sqlite3
from collections.abc import Iterable, Mapping

from receiver.model.records import JsonObject, Task, Upload
from receiver.store.ledger.access import Access, encode, marks, upload_of


class Uploads(Access):
    async def add_upload(self, upload: Upload) -> None:
        """Keeps an upload; of the same bytes the newest one counts."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                insert or replace into uploads (id, name, type, size, sha256, url, file_name, at, site)
                values (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """,
                (
                    upload.id,
                    upload.name,
                    upload.type,
                    upload.size,
                    upload.sha256,
                    upload.url,
                    upload.file_name,
                    upload.at,
                    upload.site,
                ),
            )

        await self._write_new(work)

    async def uploads(self, ids: Iterable[str]) -> dict[str, Upload]:
        """Those of the uploads that there are, however old, by id."""
        wanted = list(ids)

        def work(connection: sqlite3.Connection) -> dict[str, Upload]:
            rows = connection.execute(f"select * from uploads where id in ({marks(wanted)})", wanted).fetchall()
            return {row["id"]: upload_of(row) for row in rows}

        return await self._read(work) if wanted else {}

    async def forget_uploads(self, before: float) -> int:
        """Drops the uploads that were made before, in seconds since 1970. Returns how many."""

        def work(connection: sqlite3.Connection) -> int:
            return connection.execute("delete from uploads where at < ?", (before,)).rowcount

        return await self._write(work)

    async def replace_uploads(self, task: Task, input: JsonObject, uploads: Mapping[str, str]) -> None:
        """A task that is about to be sent gets the input that is sent: with today's texts for its uploads."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                "update tasks set input = ?, uploads = ? where key = ? and state = 'submitting'",
                (encode(input), encode(uploads), task.key),
            )

        await self._write(work)
