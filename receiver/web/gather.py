"""Gathers all that is known of a task."""

from msgspec.structs import replace

from receiver.model.errors import not_found
from receiver.model.records import Filter, Task
from receiver.model.rules import DELIVERY_BODIES
from receiver.model.shown import task_detail
from receiver.model.views import TaskDetail
from receiver.store import Store

ACTIONS_SHOWN = 200


async def known_task(store: Store, task_id: str) -> Task:
    """The task of an id. Raises Refused (404)."""
    task = await store.task(task_id)
    if task is None:
        raise not_found("task", task_id[:64])
    return task


async def gather_task(store: Store, task_id: str) -> TaskDetail:
    """A task with its event, actions, deliveries and checks. Raises Refused (404)."""
    task = await known_task(store, task_id)
    about = Filter(task=task_id, limit=DELIVERY_BODIES)
    actions = await store.actions(replace(about, limit=ACTIONS_SHOWN))
    tried = [(action, await store.attempts(action.id)) for action in reversed(actions.items)]
    deliveries = await store.deliveries(about)
    event = await store.event(task_id)
    checks = await store.checks(task_id)
    return task_detail(task, event, tried, deliveries.items[::-1], checks)
