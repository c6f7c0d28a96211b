"""What an action receives: the event document, and the key that every try of one effect carries. Pure."""

from collections.abc import Mapping

import msgspec

from receiver.records import Event, Json, JsonObject, Result, Task, rfc3339


def idempotency_key(task_id: str, name: str, generation: int) -> str:
    """The key that every try of one effect carries, so that a receiver can drop repetitions."""
    return f"{task_id}:{name}:{generation}"


EVENT_FIELDS = (
    *("type", "id", "time", "source", "confirmed", "task", "results"),
    *("error", "usage", "action", "idempotency_key"),
)
"""The names of the event document's fields, in their order."""


def event_body(event: Event, task: Task, *, results: list[Result], action: Mapping[str, Json], key: str) -> JsonObject:
    """The JSON document an action receives, as POST body, on stdin or as function argument. Fields are only added."""
    return {
        "type": f"task.{event.state}",
        "id": event.id,
        "time": rfc3339(event.at),
        "source": event.source.value,
        "confirmed": event.confirmed,
        "task": {
            "id": task.id,
            "kind": task.kind.value,
            "target": task.target,
            "labels": dict(task.labels),
            "provider_task_id": task.provider_task_id,
            "state": task.state.value,
            "submitted_at": rfc3339(task.submitted_at),
            "ended_at": rfc3339(task.ended_at),
        },
        "results": [msgspec.to_builtins(result) for result in results],
        "error": msgspec.to_builtins(event.error),
        "usage": event.usage,
        "action": dict(action),
        "idempotency_key": key,
    }
