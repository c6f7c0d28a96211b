"""Owns the V1 words about a task: the answer to its creation, its state, its outputs, and the callback made of them."""

import json

from receiver.simulator.answers import NAMES, Document, envelope, to_bytes
from receiver.simulator.orders import Kind
from receiver.simulator.task_objects import failed_reason, usage
from receiver.simulator.tasks import Status, Task

STATES = {Status.CANCEL: Status.FAILED}
"""What the four documented states make of the fifth."""


def created(task: Task, progress_url: str) -> Document:
    """The answer to an accepted creation (page "Start ComfyUI Task 1 - Basic")."""
    return envelope(
        {
            "netWssUrl": progress_url if task.status is Status.RUNNING else None,
            "taskId": task.id,
            "clientId": task.client_id,
            "taskStatus": STATES.get(task.status, task.status).value,
            "promptTips": task.order.prompt_tips,
        }
    )


def state(status: Status) -> Document:
    """The bare state, with a message that says nothing (page "Check Task Status")."""
    return envelope(STATES.get(status, status).value, msg="")


def outputs(task: Task, status: Status, progress_url: str) -> Document:
    """What the outputs endpoint says; its codes for a task that has not ended are states (page "Check Task Output")."""
    match status:
        case Status.QUEUED:
            return _coded(813, None)
        case Status.RUNNING:
            running = task.order.kind is not Kind.MODEL
            return _coded(804, {"netWssUrl": progress_url if running else None})
        case Status.SUCCESS:
            return envelope(_files(task, billed=True) if task.tells_results else [])
    return _coded(805, {"failedReason": _reason(task, status)})


def event_data(task: Task, status: Status) -> Document:
    """The same as the outputs say, as the callback has it: shorter, and the seconds are a number."""
    if status is not Status.SUCCESS:
        return outputs(task, status, "")
    tells = status is not task.status or task.tells_results
    return envelope(_files(task, billed=False) if tells else [])


def callback(inner: Document, task_id: str) -> Document:
    """The body of a V1 callback: the event data is a JSON text (page "Start ComfyUI Task 2 - Advanced")."""
    return {"event": "TASK_END", "taskId": task_id, "eventData": to_bytes(inner).decode()}


def _coded(code: int, data: object) -> Document:
    return envelope(data, code=code, msg=NAMES[str(code)])


def _files(task: Task, *, billed: bool) -> list[Document]:
    spent = usage(task, Status.SUCCESS)
    bill = {name: spent[name] for name in ("thirdPartyConsumeMoney", "consumeMoney", "consumeCoins")}
    return [
        {
            "fileUrl": output.links[-1],
            "fileType": output.extension,
            "taskCostTime": str(task.seconds) if billed else task.seconds,
            "nodeId": output.node_id,
            **(bill if billed else {}),
        }
        for output in task.outputs
    ]


def _reason(task: Task, status: Status) -> Document | None:
    """Why it failed, the lists and objects in it as texts; nothing for a task that was cancelled."""
    reason = failed_reason(task, status)
    if not reason:
        return None
    return {
        "current_outputs": "{}",
        "exception_type": reason["exception_type"],
        "node_name": reason["node_name"],
        "current_inputs": "{}",
        "traceback": json.dumps(reason["traceback"]),
        "node_id": reason["node_id"],
        "exception_message": reason["exception_message"],
    }
