"""Owns how an order becomes a task: the limits, the balance, the plan, and the answer that may be lost on its way."""

from urllib.parse import urlencode, urlsplit

from receiver.simulator.answers import Answer, Document, Refused
from receiver.simulator.faults import Fault
from receiver.simulator.ids import chance_source
from receiver.simulator.orders import Dialect, Order
from receiver.simulator.outages import Break, broken_answer
from receiver.simulator.outputs import created
from receiver.simulator.provider import Provider
from receiver.simulator.task_objects import submitted
from receiver.simulator.tasks import Task


async def take(provider: Provider, order: Order) -> Answer:
    """Accepts an order that was found in order, and answers it; Refused when there is no money or no room."""
    provider.account.check(order)
    waits = _has_to_wait(provider, order)
    task = provider.tasks.accept(order, provider.next_plan(), provider.clock(), waits=waits)
    provider.callbacks.register(task)
    answer = _submit_answer(provider, task)
    if task.plan.has(Fault.BEFORE_ANSWER):
        now = provider.clock()
        await provider.agenda.hurry(provider.tasks.end(task, now), now)
        answer = _submit_answer(provider, task) if task.plan.answer_says_end else answer
    return broken_answer(Break.LOST) if task.plan.has(Fault.ANSWER_LOST) else answer


def progress_url(provider: Provider, task: Task) -> str:
    """Where the progress of a running task would be told; nobody listens there."""
    words = {
        "c_host": "10.0.0.1",
        "c_port": "87",
        "clientId": task.client_id,
        "workflowId": task.order.target,
        "Rh-Comfy-Auth": f"{chance_source(0, 'progress', task.id).getrandbits(64):016x}",
        "target": "https://simulated",
    }
    return f"wss://{urlsplit(provider.options.link_base).netloc}/ws/c_instance?{urlencode(words)}"


def _submit_answer(provider: Provider, task: Task) -> Document:
    return submitted(task) if task.order.dialect is Dialect.V2 else created(task, progress_url(provider, task))


def _has_to_wait(provider: Provider, order: Order) -> bool:
    """Whether the task has to wait for a machine of one's own; Refused when there is no room for it."""
    options, tasks = provider.options, provider.tasks
    if options.max_in_flight is None or tasks.in_flight < options.max_in_flight:
        return False
    exclusive = options.api_type == "EXCLUSIVE"
    if not exclusive or not order.personal_queue:
        raise Refused(415 if exclusive else 421, as_number=options.number_421)
    if len(tasks.waiting) >= options.personal_queue:
        raise Refused(814)
    return True
