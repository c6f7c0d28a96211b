"""Owns the simulator as a whole: builds its parts, is an ASGI app, and puts time and faults into a test's hand."""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from receiver.simulator.account import Account
from receiver.simulator.agenda import Agenda, Entry
from receiver.simulator.callbacks import Callbacks, Deliver
from receiver.simulator.delivery import InProcessTransport
from receiver.simulator.doors.account import AccountDoors
from receiver.simulator.doors.files import FileDoors
from receiver.simulator.doors.models import ModelDoors
from receiver.simulator.doors.runs import RunDoors
from receiver.simulator.doors.tasks import TaskDoors
from receiver.simulator.doors.uploads import UploadDoors
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.files import Files
from receiver.simulator.gate import Gate
from receiver.simulator.ids import Snowflakes, chance_source
from receiver.simulator.intake import Intake
from receiver.simulator.ledger import Ledger
from receiver.simulator.options import Options
from receiver.simulator.outages import EVERY_ROUTE, ActiveOutage, Outage, Outages, Pause
from receiver.simulator.tasks import Status, Task, Tasks
from receiver.simulator.uploads import Uploads
from receiver.simulator.workflows import Library

NODES = 1024


class Simulator:
    """A RunningHub over plain memory: an ASGI app which does nothing by itself.

    Time is `clock()`, in seconds since 1970; whatever is due by it happens in `tick`. Callbacks leave by `deliver`,
    and `pause` is how to be slow on a real socket. The same seed, clock and requests give the same ids, bytes and
    faults.
    """

    def __init__(
        self,
        options: Options = Options(),  # noqa: B008 (frozen)
        *,
        clock: Callable[[], float],
        deliver: Deliver,
        pause: Pause | None = None,
    ) -> None:
        self._clock = clock
        self._options = options
        self._plans: deque[Plan] = deque()
        self._agenda = Agenda()
        self._outages = Outages()
        self._ledger = Ledger()
        self.requests, self.callbacks = self._ledger.requests, self._ledger.callbacks
        snowflakes = Snowflakes(clock, chance_source(options.seed, "node").randrange(NODES))
        files = Files(options)
        self._callbacks = Callbacks(options, clock, deliver, self._agenda, snowflakes, self._ledger)
        self.webhooks = self._callbacks.by_task
        """The webhook rows by task id."""
        self._tasks = Tasks(options, snowflakes, self._agenda, files, on_end=self._settle)
        self.tasks = self._tasks.by_id
        self.account = Account(options)
        self.uploads = Uploads(options)
        gate = Gate(clock, options.api_key, self._ledger, self._outages, pause)
        intake = Intake(options, clock, self.account, self._tasks, self._callbacks, self._agenda, self._next_plan)
        routes = [
            *TaskDoors(gate, intake, self._tasks, self._callbacks).routes(),
            *RunDoors(gate, intake, Library(options.workflows, options.apps)).routes(),
            *UploadDoors(gate, self.uploads).routes(),
            *AccountDoors(gate, options, self.account, self._tasks, clock()).routes(),
            *FileDoors(gate, files, self.uploads).routes(),
            *ModelDoors(gate, intake).routes(),
        ]
        self.routes = tuple(route.name for route in routes)
        """The names by which routes are counted and put out of order."""
        self._app = Starlette(routes=routes)

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
        while (entry := self._agenda.take(self._clock())) is not None:
            any_due = True
            await entry.step()
        return any_due

    def next_due(self) -> float | None:
        """When the next step is due, in seconds since 1970; None when nothing will happen by itself."""
        return self._agenda.next_due()

    def plan_next(self, *faults: Fault, **options: object) -> None:
        """Queues a plan for one submission to come; without faults for one where nothing goes wrong."""
        self.add_plan(msgspec.convert({"faults": faults, **options}, Plan))

    def add_plan(self, plan: Plan) -> None:
        """Queues a ready plan for one submission to come."""
        self._plans.append(plan)

    def outage(self, route: str, kind: Outage | str, times: int | None = None, code: str = "500") -> None:
        """Puts a route, or "*" for all, out of order for the next `times` requests or until healed."""
        self.begin_outage(ActiveOutage(Outage(kind), route, times, code=code))

    def begin_outage(self, outage: ActiveOutage) -> None:
        """The same with all that may be said of an outage. ValueError for a route that does not exist."""
        if outage.route not in (EVERY_ROUTE, *self.routes):
            raise ValueError(f"there is no route {outage.route!r}")
        if not outage.code.isdecimal():
            raise ValueError(f"an error code is a number, not {outage.code!r}")
        self._outages.begin(outage)

    def heal(self, route: str = EVERY_ROUTE) -> None:
        """Ends the outage of a route, or of all."""
        self._outages.heal(route)

    def finish(self, task_id: str, status: Status | None = None) -> None:
        """Ends a task now, as its plan says or as `status`; its callback is due at the next tick."""
        self._tasks.end(self._tasks.by_id[task_id], self._clock(), status)

    def count(self, route: str) -> int:
        """How many requests a route got, including those that met an outage."""
        return self._ledger.counts[route]

    def _settle(self, task: Task) -> Sequence[Entry]:
        self.account.charge(task)
        return self._callbacks.announce(task)

    def _next_plan(self) -> Plan:
        if self._plans:
            return self._plans.popleft()
        # By the task's number, so that a planned task in between changes nothing for the others.
        return self._options.draw(chance_source(self._options.seed, "chances", len(self._tasks.by_id)))
