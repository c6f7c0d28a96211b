"""Saved files: where the bytes with a digest were saved before."""

import sqlite3

from receiver.model.records import SavedFile
from receiver.store.ledger.access import Access

MOST = 16
"""Paths that are worth looking at; each is read as a whole before it is believed."""


class Files(Access):
    async def files_with(self, sha256: str) -> list[SavedFile]:
        """The newest files that were saved with a SHA-256 (hex), each path once. They may be gone or changed since."""

        def work(connection: sqlite3.Connection) -> list[SavedFile]:
            rows = connection.execute(
                """
                select result, path, sha256, size, max(rowid) as newest from files where sha256 = ?
                group by path order by newest desc limit ?
                """,
                (sha256, MOST),
            ).fetchall()
            return [
                SavedFile(result=row["result"], path=row["path"], sha256=row["sha256"], size=row["size"])
                for row in rows
            ]

        return await self._read(work)
