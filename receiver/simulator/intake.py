"""Owns how an order becomes a task: the limits, the balance, the plan, and the answer that may be lost on its way."""

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

from starlette.responses import Response

from receiver.simulator.account import Account
from receiver.simulator.agenda import Agenda
from receiver.simulator.answers import Document, Refused
from receiver.simulator.callbacks import Callbacks
from receiver.simulator.faults import Fault, Plan
from receiver.simulator.ids import chance_source
from receiver.simulator.options import Options
from receiver.simulator.orders import Dialect, Order
from receiver.simulator.outages import Break, BrokenAnswer
from receiver.simulator.outputs import created
from receiver.simulator.task_objects import submitted
from receiver.simulator.tasks import Task, Tasks


@dataclass(frozen=True)
class Intake:
    """Takes orders that were found in order. `next_plan` gives the plan of the task to come."""

    options: Options
    clock: Callable[[], float]
    account: Account
    tasks: Tasks
    callbacks: Callbacks
    agenda: Agenda
    next_plan: Callable[[], Plan]

    async def take(self, order: Order) -> Response | Document:
        """Accepts the order and answers it; Refused when there is no money or no room."""
        self.account.check(order)
        waits = self._waits(order)
        task = self.tasks.accept(order, self.next_plan(), self.clock(), waits=waits)
        self.callbacks.register(task)
        answer = self._answer(task)
        if task.plan.has(Fault.BEFORE_ANSWER):
            now = self.clock()
            await self.agenda.hurry(self.tasks.end(task, now), now)
            answer = self._answer(task) if task.plan.answer_says_end else answer
        return BrokenAnswer(Break.LOST) if task.plan.has(Fault.ANSWER_LOST) else answer

    def progress_url(self, task: Task) -> str:
        """Where the progress of a running task would be told; nobody listens there."""
        host = urlsplit(self.options.link_base).netloc
        words = {
            "c_host": "10.0.0.1",
            "c_port": "87",
            "clientId": task.client_id,
            "workflowId": task.order.target,
            "Rh-Comfy-Auth": f"{chance_source(0, 'progress', task.id).getrandbits(64):016x}",
            "target": "https://simulated",
        }
        return f"wss://{host}/ws/c_instance?{urlencode(words)}"

    def _answer(self, task: Task) -> Document:
        return submitted(task) if task.order.dialect is Dialect.V2 else created(task, self.progress_url(task))

    def _waits(self, order: Order) -> bool:
        """Whether the task has to wait for a machine of one's own."""
        limit = self.options.max_in_flight
        if limit is None or self.tasks.in_flight < limit:
            return False
        exclusive = self.account.api_type == "EXCLUSIVE"
        if not exclusive or not order.personal_queue:
            raise Refused(415 if exclusive else 421, as_number=self.options.number_421)
        if len(self.tasks.waiting) >= self.options.personal_queue:
            raise Refused(814)
        return True
