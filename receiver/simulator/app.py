"""Owns the simulator as a whole: an ASGI app that puts time and faults into a test's hand."""

from collections.abc import Callable

import msgspec
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from receiver.simulator.callbacks import Deliver
from receiver.simulator.delivery import InProcessTransport
from receiver.simulator.doors import account, files, models, runs, tasks, uploads
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.options import Options
from receiver.simulator.outages import EVERY_ROUTE, ActiveOutage, Outage, Pause
from receiver.simulator.provider import Provider
from receiver.simulator.tasks import Status

# The models' last door takes every path that no other one has.
DOORS = (*tasks.DOORS, *runs.DOORS, *uploads.DOORS, *account.DOORS, *files.DOORS, *models.DOORS)


class Simulator:
    """A RunningHub over plain memory: an ASGI app which does nothing by itself.

    Time is `clock()`, in seconds since 1970; whatever is due by it happens in `tick`. Callbacks leave by `deliver`,
    `pause` is how to be slow on a real socket, and `note` is told every request in a line. The same seed, clock and
    requests give the same ids, bytes and faults.
    """

    routes = tuple(door.name for door in DOORS)
    """The names by which routes are counted and put out of order."""

    def __init__(
        self,
        options: Options = Options(),  # noqa: B008 (frozen)
        *,
        clock: Callable[[], float],
        deliver: Deliver,
        pause: Pause | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self._provider = provider = Provider(options, clock, deliver, pause, note)
        self._app = Starlette(routes=[door.route(provider) for door in DOORS])
        self.requests, self.callbacks = provider.requests, provider.callbacks.sent
        self.tasks, self.webhooks = provider.tasks.by_id, provider.callbacks.by_task
        """The tasks and the webhook rows, both by task id."""
        self.account, self.uploads = provider.account, provider.uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    def transport(self) -> InProcessTransport:
        """An httpx transport into this simulator, without sockets; its outages raise what a client would raise."""
        return InProcessTransport(self)

    async def tick(self) -> bool:
        """Does everything due at the clock's time: starts, ends, callbacks, retries. False when nothing was due.

        Several turns may run at once; each due step happens in one of them.
        """
        any_due = False
        while (entry := self._provider.agenda.take(self._provider.clock())) is not None:
            any_due = True
            await entry.step()
        return any_due

    def next_due(self) -> float | None:
        """When the next step is due, in seconds since 1970; None when nothing will happen by itself."""
        return self._provider.agenda.next_due()

    def plan_next(self, *faults: Fault, **options: object) -> None:
        """Queues a plan for one submission to come; without faults for one where nothing goes wrong."""
        self.add_plan(msgspec.convert({"faults": faults, **options}, Plan))

    def add_plan(self, plan: Plan) -> None:
        """Queues a ready plan for one submission to come."""
        self._provider.plans.append(plan)

    def outage(self, route: str, kind: Outage | str, times: int | None = None, code: str = "500") -> None:
        """Puts a route, or "*" for all, out of order for the next `times` requests or until healed."""
        self.begin_outage(ActiveOutage(Outage(kind), route, times, code=code))

    def begin_outage(self, outage: ActiveOutage) -> None:
        """The same with all that may be said of an outage. ValueError for a route that does not exist."""
        if outage.route not in (EVERY_ROUTE, *self.routes):
            raise ValueError(f"there is no route {outage.route!r}")
        if not outage.code.isdecimal():
            raise ValueError(f"an error code is a number, not {outage.code!r}")
        self._provider.outages[outage.route] = outage

    def heal(self, route: str = EVERY_ROUTE) -> None:
        """Ends the outage of a route, or with "*" every one."""
        for name in list(self._provider.outages) if route == EVERY_ROUTE else [route]:
            self._provider.outages.pop(name, None)

    def finish(self, task_id: str, status: Status | None = None) -> None:
        """Ends a task now, as its plan says or as `status`; its callback is due at the next tick."""
        self._provider.tasks.end(self.tasks[task_id], self._provider.clock(), status)

    def count(self, route: str) -> int:
        """How many requests a route got, including those that met an outage."""
        return sum(request.route == route for request in self.requests)
