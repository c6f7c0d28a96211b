"""`receiver serve` on a clock that another process turns: wrong by any time, and as fast as it is told to be."""

import asyncio
import mmap
import os
import struct
import time
from pathlib import Path

import uvloop

from receiver.server.logs import configure_logging
from receiver.server.service import Service
from receiver.server.settings import load_settings
from receiver.web.server import listen, serve

SETTING = struct.Struct("4d")
CLOCK_FILE = "RECEIVER_TEST_CLOCK"


class TurnedClock:
    """A clock whose setting is in a file: what it showed at some moment, and how many of its seconds are one.

    Who reads while it is being set sees it by the sum, and reads again.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SETTING.size))
        with path.open("r+b") as file:
            self._setting = mmap.mmap(file.fileno(), SETTING.size)

    def set(self, shown: float, rate: float) -> None:
        real = time.time()
        self._setting[:] = SETTING.pack(shown, real, rate, shown + real + rate)

    def __call__(self) -> float:
        while True:
            shown, real, rate, total = SETTING.unpack(self._setting[:])
            if total == shown + real + rate:
                return float(shown + (time.time() - real) * rate)


def main() -> None:
    settings = load_settings(os.environ, Path.cwd())
    configure_logging()
    service = Service(settings, clock=TurnedClock(Path(os.environ[CLOCK_FILE])))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        listener = listen(settings.host, settings.port)
        runner.run(serve(service, listener, ready=lambda url: print(url, flush=True)))


if __name__ == "__main__":
    main()
