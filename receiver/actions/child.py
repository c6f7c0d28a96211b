"""A child process in its own group: fed, drained within bounds, and ended together with all it started.

The end of the process and the end of its pipes are different things: a grandchild may hold the pipes open for hours.
That is why this listens to the process itself and gives the pipes only a moment more.
A grandchild that makes a session of its own leaves the group and is out of reach.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from typing import cast

from msgspec import Struct

KEPT = 2048
TERM_GRACE = 2.0

_PIPE_GRACE = 0.25
_KILL_GRACE = 5.0
_DEATH_GRACE = 0.2
_LOOK_AGAIN = 0.02


class ExitStatus(Struct, frozen=True):
    """How a program ended: `code` is negative for a signal; with the start of stdout and the end of stderr."""

    code: int
    out: bytes
    err: bytes


class Child(asyncio.SubprocessProtocol):
    """One process. `run` is called once; `stop` may come at any time and gives it `grace` seconds to end."""

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._transport: asyncio.SubprocessTransport | None = None
        self._out = bytearray()
        self._err = bytearray()
        self._exited = asyncio.Event()
        self._drained = asyncio.Event()
        self._open_pipes = {1, 2}
        self._stopped = False
        self._exited_or_stopped = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def pipe_data_received(self, fd: int, data: bytes | str) -> None:
        data = data.encode() if isinstance(data, str) else data
        if fd == 1:
            self._out += data[: KEPT - len(self._out)]
        else:
            self._err += data
            del self._err[:-KEPT]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open_pipes.discard(fd)
        if not self._open_pipes:
            self._drained.set()

    def process_exited(self) -> None:
        self._exited.set()
        self._exited_or_stopped.set()

    def stop(self) -> None:
        self._stopped = True
        self._exited_or_stopped.set()

    def kill(self) -> None:
        """End the group now, without waiting for anything."""
        if self._transport is not None:
            _signal_group(self._transport.get_pid(), signal.SIGKILL)

    async def run(self, argv: Sequence[str], stdin: bytes, environment: Mapping[str, str]) -> ExitStatus:
        """OSError or ValueError when it cannot be started. After `stop` the status is that of an ended process."""
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: self,
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        try:
            self._feed(transport, stdin)
            await self._exited_or_stopped.wait()
            if self._exited.is_set():
                await _within(_PIPE_GRACE, self._drained.wait())
            if self._stopped:
                await self._end_group(transport.get_pid())
            code = transport.get_returncode()
            return ExitStatus(-signal.SIGKILL if code is None else code, bytes(self._out), bytes(self._err))
        finally:
            if not self._exited.is_set():
                self.kill()
            transport.close()

    def _feed(self, transport: asyncio.SubprocessTransport, stdin: bytes) -> None:
        """Hand over all of it; what the child does not read is forgotten with the pipe."""
        pipe = cast(asyncio.WriteTransport, transport.get_pipe_transport(0))
        # RuntimeError is what uvloop says of a pipe that the child has closed already.
        with suppress(BrokenPipeError, ConnectionResetError, RuntimeError):
            pipe.write(stdin)
            pipe.close()

    async def _end_group(self, group: int) -> None:
        """1. Ask all of them to end. 2. Give them a moment. 3. End whoever is left. 4. See the child buried."""
        _signal_group(group, signal.SIGTERM)
        await _within(self._grace, self._exited.wait(), _gone(group))
        _signal_group(group, signal.SIGKILL)
        await _within(_KILL_GRACE, self._exited.wait())
        # Not for long: where nobody buries orphans, the dead stay in their group.
        await _within(_DEATH_GRACE, _gone(group))


async def _gone(group: int) -> None:
    while _is_alive(group):  # noqa: ASYNC110 - nothing tells when a process group is empty
        await asyncio.sleep(_LOOK_AGAIN)


async def _within(seconds: float, *waits: Awaitable[object]) -> None:
    """Until all of them are over, or the time is."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.gather(*waits)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return not isinstance(error, ProcessLookupError)
    return True
