"""Short texts for people about tasks, actions and definitions, said alike on the command line and in the console."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line's help must not wait for msgspec
    from receiver.model.records import Price, TaskError
    from receiver.model.views import ActionView, DefinitionView, EventView, TaskFacts

WAITS_FOR = {
    "definition": "its definition, which is not in the settings",
    "resume": "its definition to be resumed",
    "confirmation": "RunningHub to confirm the end",
    "others": "the actions it comes after",
    "trial": "a trial of its target to succeed, or to be the trial",
}
"""What an owed action waits for, beside its time."""
STATES = {
    "queued": "it waits in our own queue; nothing has been sent yet",
    "submitting": "it is being sent to RunningHub",
    "submitted": "RunningHub has it, and its end is waited for",
    "in_doubt": "it was sent, and no answer says whether RunningHub took it: it may be billed. A callback may tell; "
    "otherwise look on RunningHub's site, and if it is not there, submit it again",
    "rejected": "it was not taken; nothing was made",
    "succeeded": "it has ended, and its results are there",
    "failed": "RunningHub took it and could not make it",
    "cancelled": "it was cancelled",
    "lost": "RunningHub says that it does not know it; it is still asked about, rarely, and any news brings it back",
}
"""What a state of a task means."""
UNSENT = "none: the task has not been sent yet"
UNTAKEN = "none: RunningHub has no such task"
WAITING = "waiting"
"""How the state of a definition begins whose actions wait after failures."""


def moment(time: str | None) -> str:
    """A time of the API in UTC, without the milliseconds; nothing for None."""
    return (time or "")[:19].replace("T", " ")


def task_state(task: "TaskFacts") -> str:
    """The task's state, followed by RunningHub's own status while RunningHub has the task."""
    return " ".join(filter(None, (task.state, task.provider_status if task.state == "submitted" else None)))


def standing(task: "TaskFacts") -> str:
    """What the task's state means, in a sentence."""
    return STATES.get(task.state, "")


def error(found: "TaskError | None") -> str | None:
    """Code, name and message of an error."""
    return f"{found.code} {found.name}: {found.message}" if found else None


def source(event: "EventView | None") -> str | None:
    """How the end of a task became known, and what is doubtful about it."""
    if event is None:
        return None
    flags = [name for name in ("contradicted", "no_results") if getattr(event, name)]
    return ", ".join([event.source, "confirmed" if event.confirmed else "unconfirmed", *flags])


def callback(task: "TaskFacts") -> str:
    """Whether a task's callback came, and what was done about one that did not."""
    callback = task.callback
    if callback.miss:
        missed = callback.missed_at and f"missed {moment(callback.missed_at)}"
        resent = callback.resent_at and f"asked for again {moment(callback.resent_at)}"
        return ", ".join(filter(None, (callback.miss, callback.cause, missed, resent)))
    if callback.delivered_at:
        return f"came {moment(callback.delivered_at)}"
    if task.state == "queued":
        return UNSENT
    if task.state == "rejected" or (task.ended_at and not task.provider_task_id):
        return UNTAKEN
    if not callback.sent:
        return f"no callback URL was sent; RunningHub {'was' if task.ended_at else 'is'} asked"
    return "none came" if task.ended_at else "no callback yet"


def cost(usage: Mapping[str, object]) -> str:
    """What a task cost in money, coins and seconds, as far as RunningHub says it."""
    parts = [f"money {amount}" for name in ("consumeMoney", "thirdPartyConsumeMoney") if (amount := usage.get(name))]
    parts += [f"coins {usage['consumeCoins']}"] if usage.get("consumeCoins") else []
    parts += [f"{usage['taskCostTime']} s"] if usage.get("taskCostTime") not in (None, "", "0") else []
    return ", ".join(parts)


def costs_of_children(usage: Mapping[str, object]) -> list[tuple[str, str]]:
    """RunningHub's ids of the tasks that a task was made of, each with its cost."""
    listed = usage.get("children")
    return [(str(each.get("task_id")), cost(each)) for each in (listed if isinstance(listed, list) else [])]


def price(price: "Price | None") -> str | None:
    """What an order would cost."""
    if price is None:
        return None
    said = price.text or f"{price.amount or ''} {price.currency or ''}".strip()
    return f"{said}, free this time".lstrip(", ") if price.free else said


def due(action: "ActionView") -> str:
    """When an action may run next, or what it waits for."""
    if action.waits_for:
        return f"waits for {action.waits_for}"
    return "held" if action.state == "owed" and action.due_at is None else moment(action.due_at)


def definition_state(definition: "DefinitionView") -> str:
    """Whether a definition's actions run now, and if not, until when or why."""
    if not definition.configured:
        return "gone"
    if definition.paused:
        return "paused"
    if definition.breaker == "closed":
        return "running"
    return f"{WAITING}: {definition.failures} failed in a row, next trial {moment(definition.open_until)} UTC"


def definition_counts(definition: "DefinitionView") -> str:
    """How many actions a definition has in each state."""
    return ", ".join(f"{count} {state}" for state, count in definition.counts.items())
