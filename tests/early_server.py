"""The control of the kill proof: a server that answers before what it promises is on disk."""

import asyncio

from servers import run

from receiver.records import NewDelivery
from receiver.service import Service
from receiver.settings import Settings
from receiver.store import database_path
from receiver.store.sqlite.store import SqliteStore
from receiver.store.terms import Recorded


class EarlyStore(SqliteStore):
    """Schedules the write of a delivery, and promises it at once."""

    _later: set[asyncio.Task[Recorded | None]]

    async def record_delivery(self, new: NewDelivery, now: float) -> Recorded | None:
        self._later = getattr(self, "_later", set())
        writing = asyncio.create_task(super().record_delivery(new, now))
        self._later.add(writing)
        writing.add_done_callback(self._later.discard)
        return Recorded(duplicate=False, due=True)


class EarlyService(Service):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.store = EarlyStore(database_path(settings.database), disk_floor=settings.disk_floor)


if __name__ == "__main__":
    run(EarlyService)
