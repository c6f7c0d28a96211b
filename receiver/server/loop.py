"""A loop around a step: call it while there is something to do, then rest until something is due or somebody calls.

Looking costs a read, a step with nothing to do costs a write. So a worker looks before it takes the first step, and
workers that are woken together look once for all of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field

import structlog

from receiver.model.errors import StoreUnavailable
from receiver.model.records import Line

IDLE = 60.0
"""Seconds of rest at the most, should nobody call and nothing be due."""
SHORTEST_REST = 0.05
AFTER_AN_ERROR = 2.0
CANCEL_PATIENCE = 2.5
"""Seconds for a step that was cancelled; a program that is stopped takes two of them."""

Step = Callable[[], Awaitable[Line | None]]

log = structlog.get_logger()


@dataclass(eq=False)
class Loop:
    """Runs `step` while `next_due` says that there is something to do; None is "not by itself".

    `workers` of them run side by side, each with a step of its own where `steps` has one for each. A step that raises
    is logged and tried again; it never ends the loop.
    """

    name: str
    step: Step
    next_due: Callable[[], Awaitable[float | None]]
    clock: Callable[[], float]
    _: KW_ONLY
    workers: int = 1
    steps: Sequence[Step] = ()
    after: Callable[[], None] | None = None
    turned_at: float | None = field(default=None, init=False)
    """When it last looked whether there is anything to do."""
    _wakes: list[asyncio.Event] = field(default_factory=list, init=False)
    _resting: dict[asyncio.Event, None] = field(default_factory=dict, init=False)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)
    _looking: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _seen: float | None = field(default=None, init=False)
    _is_current: bool = field(default=False, init=False)

    def start(self) -> None:
        for number in range(self.workers):
            wake = asyncio.Event()
            self._wakes.append(wake)
            step = self.steps[number] if self.steps else self.step
            self._tasks.append(asyncio.create_task(self._run(wake, step), name=f"{self.name}-{number}"))

    def wake(self) -> None:
        """There may be something to do now."""
        self._is_current = False
        for wake in self._wakes:
            wake.set()

    @property
    def alive(self) -> bool:
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def stop(self) -> None:
        """No new step is begun; `ended` tells when the last one is through."""
        self._stopping = True
        self.wake()

    async def ended(self, patience: float) -> None:
        """Waits for the steps in hand, `patience` seconds at the most, then cancels them and waits a little for that.

        What will not be cancelled, such as a user's function that catches everything, is left to itself.
        """
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=max(0.0, patience))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=CANCEL_PATIENCE)
        self._tasks.clear()

    async def _run(self, wake: asyncio.Event, step: Step) -> None:
        while not self._stopping:
            wake.clear()
            self.turned_at = self.clock()
            try:
                due = await self._look()
                # What is due but cannot be taken is in other hands: then it rests too, and nobody spins.
                if due is not None and due <= self.clock() and await self._work(step):
                    continue
            except StoreUnavailable as problem:
                log.warning(self.name, problem=problem.reason, message=str(problem))
                due = self.clock() + AFTER_AN_ERROR
            except Exception:
                log.exception(self.name)
                due = self.clock() + AFTER_AN_ERROR
            await self._rest(wake, due)

    async def _look(self) -> float | None:
        """When there is something to do. Workers that are woken together share one look."""
        async with self._looking:
            while not self._is_current:
                self._is_current = True  # before the look, so that what happens meanwhile is not missed
                try:
                    self._seen = await self.next_due()
                except BaseException:
                    self._is_current = False
                    raise
            return self._seen

    async def _work(self, step: Step) -> bool:
        """Steps until there is nothing left to do. Whether there was anything."""
        worked, debug = False, log.bind().debug  # bound once: to bind it costs more than a line that is not written
        try:
            while not self._stopping and (line := await step()) is not None:
                worked = True
                debug(self.name, **line)
                if self.after is not None:
                    self.after()
                self._call_another()
        finally:
            self._is_current = False
        return worked

    def _call_another(self) -> None:
        """While this worker goes on, perhaps for long, another one knows when the next thing is due."""
        self._is_current = False
        if self._resting:
            next(iter(self._resting)).set()

    async def _rest(self, wake: asyncio.Event, due: float | None) -> None:
        seconds = IDLE if due is None else min(IDLE, max(SHORTEST_REST, due - self.clock()))
        self._resting[wake] = None
        try:
            async with asyncio.timeout(seconds):
                await wake.wait()
        except TimeoutError:
            self._is_current = False
        finally:
            del self._resting[wake]
