"""The control of the kill proof: `receiver serve`, but for a store that promises before the commit is on disk."""

import asyncio
import os
from pathlib import Path

import uvloop

from receiver.model.entries import NewDelivery, Recorded
from receiver.server.logs import configure_logging
from receiver.server.service import Service
from receiver.server.settings import Settings, load_settings
from receiver.store import database_path
from receiver.store.sqlite.store import SqliteStore
from receiver.web.server import listen, serve


class EarlyStore(SqliteStore):
    """Schedules the write of a delivery, and answers for it at once."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._writing: set[asyncio.Task[Recorded | None]] = set()

    async def record_delivery(self, new: NewDelivery, now: float) -> Recorded | None:
        writing = asyncio.create_task(super().record_delivery(new, now))
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        return Recorded(duplicate=False, due=True)


class EarlyService(Service):
    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.store = EarlyStore(database_path(settings.database))


def main() -> None:
    settings = load_settings(os.environ, Path.cwd())
    configure_logging()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        listener = listen(settings.host, settings.port)
        runner.run(serve(EarlyService(settings), listener, ready=lambda url: print(url, flush=True)))


if __name__ == "__main__":
    main()
