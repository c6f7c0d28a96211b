"""Prunes once an hour and when somebody asks: one run at a time, with rests, until it is through or told to stop."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import structlog

from receiver.housekeep.prune import Pruning
from receiver.model import retention
from receiver.model.errors import Refused, StoreUnavailable
from receiver.store import Store

log = structlog.get_logger()


class Pruner:
    """`clock` is in seconds since 1970; `rest` waits for so many seconds between two steps.

    `pruning` is the run that goes on, or the last one; `problem` says why that one could not end.
    """

    def __init__(
        self,
        store: Store,
        keep: retention.Keep,
        clock: Callable[[], float],
        *,
        rest: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.days = retention.days_kept(keep)
        self._keep = keep
        self.pruning: Pruning | None = None
        self.ended_at: float | None = None
        self.problem: str | None = None
        self._store = store
        self._clock = clock
        self._rest = rest
        self._next_at = clock() + retention.PRUNE_FIRST
        self._stopping = False
        self._work: asyncio.Task[None] | None = None

    @property
    def state(self) -> str:
        """idle (no run yet), running, done, stopped or failed."""
        if self.pruning is None:
            return "idle"
        if self.ended_at is None:
            return "running"
        return "failed" if self.problem else "stopped" if self._stopping else "done"

    async def begin(self, *, dry_run: bool = False) -> asyncio.Task[None]:
        """A run in the background; the one that goes on, if that does the same. Raises Refused (409) if it does not."""
        if self._work is not None and self._stopping:
            await asyncio.wait({self._work})
        if self._work is not None and self.pruning is not None and not self._work.done():
            if self.pruning.dry_run == dry_run:
                return self._work
            other = "a dry run" if self.pruning.dry_run else "pruning"
            raise Refused(409, "pruning", f"{other} goes on: wait for it, or stop it with `receiver prune stop`")
        self.pruning = Pruning(self._keep, self._clock(), dry_run=dry_run)
        self.ended_at = self.problem = None
        self._stopping = False
        self._work = asyncio.create_task(self._run(self.pruning), name="prune")
        return self._work

    def stop(self) -> None:
        """No step is begun any more; what was removed is removed."""
        self._stopping = self._stopping or self.state == "running"

    async def close(self) -> None:
        self.stop()
        if self._work is not None:
            await self._work

    async def step(self) -> None:
        """The run of the hour, when it is due; nothing if somebody's goes on."""
        if self._clock() >= await self.due():
            self._next_at = self._clock() + retention.PRUNE_EVERY
            if self.state != "running":
                await asyncio.shield(await self.begin())

    async def due(self) -> float:
        """When the next run is due. Further off than an hour is only what a clock left behind that was set back."""
        return min(self._next_at, self._clock() + retention.PRUNE_EVERY)

    async def _run(self, pruning: Pruning) -> None:
        try:
            more = True
            while more and not self._stopping:
                begun = time.monotonic()
                more = await pruning.step(self._store)
                took = time.monotonic() - begun
                await self._rest(min(retention.PRUNE_LONGEST_REST, took * retention.PRUNE_REST) if more else 0.0)
        except StoreUnavailable as problem:
            self.problem = str(problem)
        except Exception as error:
            self.problem = f"{type(error).__name__}; the server's log says more"
            log.exception("prune")
        finally:
            self.ended_at = self._clock()
        self._log(pruning)

    def _log(self, pruning: Pruning) -> None:
        rows = {kind: gone.rows for kind, gone in pruning.gone.items() if gone.rows}
        if self.problem:
            log.warning("prune", problem=self.problem, **rows)
        elif rows and not pruning.dry_run:
            log.info("prune", **rows, bytes=sum(gone.bytes for gone in pruning.gone.values()), state=self.state)
