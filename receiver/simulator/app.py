"""Owns the simulator as a whole: builds its parts, is an ASGI app, and puts time and faults into a test's hand."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Unpack

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from receiver.simulator.account import Account, Tariff
from receiver.simulator.agenda import Agenda, Entry
from receiver.simulator.callbacks import Callbacks, Deliver, WebhookRow
from receiver.simulator.delivery import InProcessTransport
from receiver.simulator.doors.account import AccountDoors
from receiver.simulator.doors.files import FileDoors
from receiver.simulator.doors.models import ModelDoors
from receiver.simulator.doors.runs import RunDoors
from receiver.simulator.doors.tasks import TaskDoors
from receiver.simulator.doors.uploads import UploadDoors
from receiver.simulator.faults import Chances, Fault, Plan, PlanOptions
from receiver.simulator.files import Files
from receiver.simulator.gate import Gate
from receiver.simulator.ids import Snowflakes, chance_source
from receiver.simulator.intake import Intake, Limits
from receiver.simulator.ledger import Ledger, Request, SentCallback
from receiver.simulator.models import ModelFacts
from receiver.simulator.outages import EVERY_ROUTE, Outage, Outages, Pause
from receiver.simulator.tasks import Status, Task, Tasks
from receiver.simulator.uploads import Uploads
from receiver.simulator.workflows import APPS, WORKFLOWS, App, Library, Workflow

NODES = 1024
MEGABYTE = 1024 * 1024


class Simulator:
    """A RunningHub over plain memory: an ASGI app which does nothing by itself.

    Time is `clock()`, in seconds since 1970; whatever is due by it happens in `tick`. Callbacks leave by `deliver`.
    The same seed, clock and requests give the same ids, bytes and faults.

    * `base_url`: the front of the result files' links.
    * `api_key`: the only key accepted, None for every one that is not blank.
    * `apikey_only`: whether the account's status takes the key as `apikey` alone, as documented, and not as `apiKey`.
    * `task_seconds`: from submission to end. `retry_seconds`: the pauses between a failed attempt and the next.
    * `callback_delay`: seconds by which every callback is held back.
    * `max_in_flight`: tasks that may be under way; beyond it submissions meet error 421, `number_421` as a number.
      With an EXCLUSIVE key it is 415, and up to `personal_queue` tasks may wait for a machine instead.
    * `file_size`: bytes of a result file, which lives `link_seconds` after the task's end.
    * `chances`: what befalls tasks without a plan of their own.
    * `callback_on_cancel`: whether a cancelled task sends a callback.
    * `pause`: how to be slow on a real socket.
    * `workflows`, `apps`: those that exist. `models`: facts by path; None lets every model pass with any parameters.
    * `api_type`: NORMAL, SHARED or EXCLUSIVE; only a SHARED key may use models.
    * `coins`, `money`: what the account begins with, the money in `currency`, CNY or USD.
    * `coins_per_second`: of a workflow or app on the smallest machine. `model_price`: of a model's run, None for a
      price that depends on its input, and always is the same for the same.
    * `upload_limit`: bytes of an uploaded file, None for no limit.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        deliver: Deliver,
        seed: int = 0,
        base_url: str = "http://simulator.test",
        api_key: str | None = None,
        task_seconds: float = 5.0,
        retry_seconds: Sequence[float] = (30.0, 30.0, 30.0),
        callback_delay: float = 0.0,
        max_in_flight: int | None = None,
        number_421: bool = False,
        apikey_only: bool = False,
        file_size: int = 65536,
        link_seconds: float = 86400.0,
        chances: Chances = Chances(),  # noqa: B008 (frozen)
        callback_on_cancel: bool = False,
        pause: Pause | None = None,
        workflows: Sequence[Workflow] = WORKFLOWS,
        apps: Sequence[App] = APPS,
        models: Mapping[str, ModelFacts] | None = None,
        api_type: str = "SHARED",
        coins: float = 1_000_000.0,
        money: float = 1_000_000.0,
        currency: str = "CNY",
        coins_per_second: float = 0.2,
        model_price: float | None = None,
        personal_queue: int = 1000,
        upload_limit: int | None = 30 * MEGABYTE,
    ) -> None:
        self._clock = clock
        self._seed = seed
        self._chances = chances
        self._plans: deque[Plan] = deque()
        self._agenda = Agenda()
        self._outages = Outages()
        self._ledger = Ledger()
        snowflakes = Snowflakes(clock, chance_source(seed, "node").randrange(NODES))
        files = Files(seed=seed, base_url=base_url, size=file_size, link_seconds=link_seconds)
        self._callbacks = Callbacks(
            seed=seed,
            clock=clock,
            deliver=deliver,
            agenda=self._agenda,
            snowflakes=snowflakes,
            ledger=self._ledger,
            retry_seconds=retry_seconds,
            callback_delay=callback_delay,
            callback_on_cancel=callback_on_cancel,
        )
        self._tasks = Tasks(
            seed=seed,
            snowflakes=snowflakes,
            agenda=self._agenda,
            files=files,
            task_seconds=task_seconds,
            on_end=self._settle,
        )
        self._account = Account(
            coins=coins, money=money, currency=currency, api_type=api_type, task_seconds=task_seconds
        )
        self._uploads = Uploads(seed=seed, base_url=base_url, limit=upload_limit)
        limits = Limits(max_in_flight, number_421, personal_queue)
        gate = Gate(clock, api_key, self._ledger, self._outages, pause)
        tariff = Tariff(seed, coins_per_second, model_price, currency)
        intake = Intake(
            clock=clock,
            limits=limits,
            account=self._account,
            tasks=self._tasks,
            callbacks=self._callbacks,
            agenda=self._agenda,
            next_plan=self._next_plan,
            base_url=base_url,
        )
        routes = [
            *TaskDoors(gate, intake, self._tasks, self._callbacks).routes(),
            *RunDoors(gate, intake, tariff, Library(workflows, apps), seed).routes(),
            *UploadDoors(gate, self._uploads).routes(),
            *AccountDoors(gate, self._account, limits, self._tasks, clock(), apikey_only).routes(),
            *FileDoors(gate, files, self._uploads).routes(),
            *ModelDoors(gate, intake, tariff, models).routes(),
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

    def plan_next(self, *faults: Fault, **options: Unpack[PlanOptions]) -> None:
        """Queues a plan for one submission to come; without faults for one where nothing goes wrong."""
        self.add_plan(Plan(frozenset(faults), **options))

    def add_plan(self, plan: Plan) -> None:
        """Queues a ready plan for one submission to come."""
        self._plans.append(plan)

    def outage(
        self, route: str, kind: Outage | str, times: int | None = None, *, seconds: float = 30.0, code: str = "500"
    ) -> None:
        """Puts a route, or "*" for all, out of order for the next `times` requests or until healed.

        `seconds` is how slow "slow" is on a real socket, `code` the provider's error code that "code" answers.
        ValueError for a route or kind that does not exist.
        """
        if route not in (EVERY_ROUTE, *self.routes):
            raise ValueError(f"there is no route {route!r}")
        if not code.isdecimal():
            raise ValueError(f"an error code is a number, not {code!r}")
        self._outages.begin(route, Outage(kind), times, seconds, code)

    def heal(self, route: str = EVERY_ROUTE) -> None:
        """Ends the outage of a route, or of all."""
        self._outages.heal(route)

    def finish(self, task_id: str, status: Status | None = None) -> None:
        """Ends a task now, as its plan says or as `status`; its callback is due at the next tick."""
        self._tasks.end(self._tasks.by_id[task_id], self._clock(), status)

    def count(self, route: str) -> int:
        """How many requests a route got, including those that met an outage."""
        return self._ledger.counts[route]

    @property
    def requests(self) -> list[Request]:
        return self._ledger.requests

    @property
    def callbacks(self) -> list[SentCallback]:
        return self._ledger.callbacks

    @property
    def tasks(self) -> dict[str, Task]:
        return self._tasks.by_id

    @property
    def webhooks(self) -> dict[str, WebhookRow]:
        """The webhook rows by task id."""
        return self._callbacks.by_task

    @property
    def account(self) -> Account:
        return self._account

    @property
    def uploads(self) -> Uploads:
        return self._uploads

    def _settle(self, task: Task) -> Sequence[Entry]:
        self._account.charge(task)
        return self._callbacks.announce(task)

    def _next_plan(self) -> Plan:
        if self._plans:
            return self._plans.popleft()
        # By the task's number, so that a planned task in between changes nothing for the others.
        return self._chances.draw(chance_source(self._seed, "chances", len(self._tasks.by_id)))
