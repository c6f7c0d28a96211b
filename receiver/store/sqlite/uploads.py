"""Uploads: which of our files the provider has, and under what link and name."""

import sqlite3
from collections.abc import Iterable

from receiver.records import Upload
from receiver.store.sqlite.access import Access, marks, upload_of


class Uploads(Access):
    async def add_upload(self, upload: Upload) -> None:
        """Keeps an upload; of the same bytes the newest one counts."""

        def work(connection: sqlite3.Connection) -> None:
            connection.execute(
                """
                insert or replace into uploads (id, name, type, size, sha256, url, file_name, at)
                values (?, ?, ?, ?, ?, ?, ?, ?)
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
