"""Gathers all that is known of a task."""

from msgspec.structs import replace

from receiver.model.records import Filter, Task
from receiver.model.rules import DELIVERY_BODIES
from receiver.model.shown import action_view, event_view, shown, task_view, timeline
from receiver.model.views import CheckView, DeliveryView, TaskDetail
from receiver.store import Store

ACTIONS_SHOWN = 200


async def gather_task(store: Store, task: Task) -> TaskDetail:
    """A task with its event, actions, deliveries, checks and timeline."""
    about = Filter(task=task.id, limit=DELIVERY_BODIES)
    actions = (await store.actions(replace(about, limit=ACTIONS_SHOWN))).items[::-1]
    tried = [(action, await store.attempts(action.id)) for action in actions]
    deliveries = (await store.deliveries(about)).items[::-1]
    event = await store.event_shown(task.id)
    checks = await store.checks(task.id)
    return task_view(
        TaskDetail,
        task,
        results=event.results if event else [],
        usage=event.usage if event else {},
        event=event_view(event) if event else None,
        actions=[action_view(action, attempts) for action, attempts in tried],
        deliveries=[shown(DeliveryView, delivery) for delivery in deliveries],
        checks=[shown(CheckView, check, seconds=round(check.seconds, 3)) for check in checks],
        timeline=timeline(task, event, tried, deliveries, checks),
    )
