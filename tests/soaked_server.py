"""The server of a soak: in a process of its own, on a clock that runs fast, and all that can be done to it."""

import asyncio
import os
import random
import resource
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

from accounting import Readiness
from servers import SERVE, Server, environment, launched
from wrong_clock_server import CLOCK_FILE, TurnedClock

ARGV = (SERVE[0], str(Path(__file__).with_name("wrong_clock_server.py")))
FAST, FASTER = 10.0, 480.0
"""How many seconds of the server's clock are one, in the storm and in the calm after it."""
HEALING = 5.0
"""Seconds in which `/readyz` must say that all is well again."""
DAYS = 3 * 86_400.0
SETTINGS = """
[callbacks]
disk_floor = 0
confirm_patience = 30
[runninghub]
max_in_flight = 400
[[actions]]
name = "keep"
kind = "download"
directory = "results"
[[actions]]
name = "hook"
kind = "http"
url = "{hook}"
allow_private = true
max_attempts = 6
on = ["succeeded", "failed", "cancelled"]
"""
NOTE = """
[[actions]]
name = "note"
kind = "command"
command = ["sh", "-c", "cat >> notes"]
after = ["keep"]
"""

Acts = dict[str, Callable[[], Awaitable[None]]]


class SoakedServer:
    """The one server there is at a time, of several `lives`; it is told where its provider and its endpoint are.

    `ready` is what `/readyz` may say, `refused` when a callback was refused and why, and `broken` from when to when
    that may have been.
    """

    MORTAL = ("kill", "restart")

    def __init__(
        self, directory: Path, rng: random.Random, provider_url: str, hook_url: str, *, small_disk: bool
    ) -> None:
        self.directory, self.rng, self.small_disk = directory, rng, small_disk
        self.provider_url, self.hook_url = provider_url, hook_url
        self.database = directory / "receiver.db"
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.clock = TurnedClock(directory.parent / "clock")
        self.ready = Readiness()
        self.lives: list[Server] = []
        self.refused: list[tuple[float, str]] = []
        self.broken: list[tuple[float, float]] = []
        self._process = AsyncExitStack()

    def write_settings(self, *, with_note: bool) -> None:
        settings = SETTINGS.format(hook=self.hook_url)
        (self.directory / "receiver.toml").write_text(settings + (NOTE if with_note else ""))

    async def start(self) -> None:
        given = environment(
            PORT=str(self.port), RECEIVER_PUBLIC_URL=self.url,
            RUNNINGHUB_BASE_URL=self.provider_url,
            **{CLOCK_FILE: str(self.directory.parent / "clock")},
        )  # fmt: skip
        self._process = AsyncExitStack()
        self.ready.may_say("gone", "ready")
        server = await self._process.enter_async_context(launched(self.directory, argv=ARGV, given=given))
        self.lives.append(server)
        await server.ready()
        self.ready.may_say("ready")

    @property
    def newest(self) -> Server:
        return self.lives[-1]

    def length(self) -> float:
        """How long an act goes on, in seconds."""
        return self.rng.uniform(1.0, 3.0)

    async def stop(self) -> None:
        self.ready.may_say("gone", "ready", "stopping")
        await self.newest.stop()
        await self._process.aclose()

    def acts(self, *, mortal: bool) -> Acts:
        acts: Acts = {
            "file_limit": self._limit_its_files,
            "locked": self._hold_the_lock,
            "clock_ahead": lambda: self._turn_clock(DAYS),
            "clock_behind": lambda: self._turn_clock(-DAYS),
            "clock_a_little_ahead": lambda: self._turn_clock(20.0),
            "clock_a_little_behind": lambda: self._turn_clock(-20.0),
        }
        if self.small_disk:
            acts["disk_full"] = self._fill_its_disk
        if mortal:
            acts |= dict(zip(self.MORTAL, (self._kill, self._restart), strict=True))
        return acts

    async def _kill(self) -> None:
        self.ready.may_say("gone", "ready")
        with self.not_there():
            await self.newest.kill()
            await self._process.aclose()
            await asyncio.sleep(self.rng.uniform(0.0, 1.5))
            await self.start()

    async def _restart(self) -> None:
        """It stops in peace, and comes back without a definition; that one is back at the next restart, or soon."""
        with self.not_there():
            await self.stop()
            self.write_settings(with_note=False)
            await self.start()
        await asyncio.sleep(self.length())
        with self.not_there():
            await self.stop()
            self.write_settings(with_note=True)
            await self.start()

    @contextmanager
    def not_there(self) -> Iterator[None]:
        begun = time.monotonic()
        yield
        self.broken.append((begun, time.monotonic()))

    async def _fill_its_disk(self) -> None:
        ballast = self.directory / "ballast"

        def fill() -> None:
            with suppress(OSError), ballast.open("ab", buffering=0) as file:
                while True:
                    file.write(bytes(65_536))

        await self._unable("disk_full", fill, lambda: ballast.unlink(missing_ok=True))

    async def _limit_its_files(self) -> None:
        pid = self.newest.pid
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        largest = max(each.stat().st_size for each in self.directory.glob("receiver.db*"))

        def limit() -> None:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (largest + 10_000, hard))

        await self._unable(
            "disk_error", limit, lambda: resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, hard))
        )

    async def _unable(self, reason: str, fill: Callable[[], None], heal: Callable[[], object]) -> None:
        """For a while the server cannot write. It may say so from the first write that is refused."""
        begun, before = time.monotonic(), self.ready.said[reason]
        self.ready.may_say("ready", reason)
        until = begun + self.length() + 1
        try:
            while time.monotonic() < until:
                fill()
                await asyncio.sleep(0.2)
        finally:
            heal()
        refused = [each for each in self.refused if each[0] >= begun and each[1] == reason]
        if refused and time.monotonic() - refused[0][0] > 1 and self.ready.said[reason] == before:
            self.ready.wrong.append(f"a callback was refused because of {reason}, and /readyz never said so")
        await asyncio.sleep(HEALING)
        self.ready.may_say("ready")
        self.broken.append((begun, time.monotonic()))

    async def _hold_the_lock(self) -> None:
        self.ready.may_say("ready", "locked")
        with self.not_there():
            other = sqlite3.connect(self.database, isolation_level=None, timeout=5)
            try:
                with suppress(sqlite3.OperationalError):
                    other.execute("begin immediate")
                    await asyncio.sleep(self.length())
                    other.execute("rollback")
            finally:
                other.close()
            await asyncio.sleep(HEALING / 2)
        self.ready.may_say("ready")

    async def _turn_clock(self, seconds: float) -> None:
        """By so little that it does no harm, or by so much that it can be seen: between these nobody can tell."""
        self.clock.set(self.clock() + seconds, FAST)
        await asyncio.sleep(self.length())
        self.clock.set(self.clock() - seconds, FAST)


def free_port() -> int:
    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return int(made.getsockname()[1])


@contextmanager
def small_disk(home: Path, seconds: float) -> Iterator[tuple[Path, str | None]]:
    """A directory on a file system of its own that can be filled; or one on the large disk, and why."""
    directory = home / "disk"
    directory.mkdir()
    # A download leaves 64 MiB free, and what a minute leaves behind takes some more.
    size = f"size={128 + int(seconds / 4)}m"
    mounting = ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(directory)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mounting, capture_output=True).returncode:
        yield directory, "a file system can be mounted by root alone"
        return
    try:
        yield directory, None
    finally:
        subprocess.run(["umount", str(directory)], check=True)
