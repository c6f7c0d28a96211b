"""Owns the parts of a simulated RunningHub, wired together: what its doors work on."""

from collections import deque
from collections.abc import Callable, Sequence

from receiver.simulator.account import Account
from receiver.simulator.agenda import Agenda, Entry
from receiver.simulator.callbacks import Callbacks, Deliver
from receiver.simulator.faults import Plan
from receiver.simulator.files import Files
from receiver.simulator.ids import Snowflakes, chance_source
from receiver.simulator.ledger import Request
from receiver.simulator.options import Options
from receiver.simulator.outages import ActiveOutage, Pause
from receiver.simulator.tasks import Task, Tasks
from receiver.simulator.uploads import Uploads

NODES = 1024


class Provider:
    """One account with its tasks, callbacks and files. Nothing happens by itself: what is to come is on the agenda."""

    def __init__(
        self,
        options: Options,
        clock: Callable[[], float],
        deliver: Deliver,
        pause: Pause | None = None,
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.options, self.clock, self.pause, self.note = options, clock, pause, note
        self.opened_at = clock()
        self.plans: deque[Plan] = deque()
        """The plans of the submissions to come."""
        self.requests: list[Request] = []
        self.outages: dict[str, ActiveOutage] = {}
        """The outages in force, by route."""
        self.agenda = Agenda()
        self.account, self.files, self.uploads = Account(options), Files(options), Uploads(options)
        snowflakes = Snowflakes(clock, chance_source(options.seed, "node").randrange(NODES))
        self.callbacks = Callbacks(options, clock, deliver, self.agenda, snowflakes)
        self.tasks = Tasks(options, snowflakes, self.agenda, self.files, self._settle)
        self.workflows = {workflow.id: workflow for workflow in options.workflows}
        self.apps = {app.id: app for app in options.apps}

    def next_plan(self) -> Plan:
        """The plan of the task that comes next: the first one queued, or one drawn by the options' chances."""
        if self.plans:
            return self.plans.popleft()
        # By the task's number, so that a planned task in between changes nothing for the others.
        return self.options.draw(chance_source(self.options.seed, "chances", len(self.tasks.by_id)))

    def _settle(self, task: Task) -> Sequence[Entry]:
        self.account.charge(task)
        return self.callbacks.announce(task)
