"""Owns the V2 task object in its variants: as submitted, as queried, and as the event data of a callback."""

from receiver.simulator.answers import Document, message_of
from receiver.simulator.orders import TEXT, Kind
from receiver.simulator.tasks import Output, Status, Task

GRAPH_FAILED = "工作流运行失败"
"""All that the error message says when a graph fails; the reason stands elsewhere."""


def submitted(task: Task) -> Document:
    """The answer to an accepted submission: the seven keys of the submit example (page "Standard Model API")."""
    return _seven_keys(task, task.status, task.id, tells=True)


def queried(task: Task, status: Status) -> Document:
    """The answer to a query that says `status` (page "Query generation result (V2)")."""
    return {
        "taskId": task.id,
        "status": status.value,
        **_error_of(task, status),
        "failedReason": failed_reason(task, status),
        "usage": usage(task, status),
        "results": _results(task, status, nodes=True) if task.tells_results else None,
        "clientId": task.client_id,
        "promptTips": task.order.prompt_tips,
        # Not on the page, whose example is a model's: what was seen of tasks that may have children.
        **(_kinship(task, status, task.id) if _has_nodes(task) else {}),
    }


def ended(task: Task, status: Status, task_id: str) -> Document:
    """The event data of a V2 callback: the task object as it was captured from real callbacks, in that key order.

    `status` and `task_id` differ from the task's own where a callback is to lie.
    """
    return {
        **_seven_keys(task, status, task_id, tells=status is not task.status or task.tells_results),
        "failedReason": failed_reason(task, status),
        "usage": usage(task, status),
        **_kinship(task, status, task_id),
    }


def callback(event_data: Document, task_id: str) -> Document:
    """The body of a V2 callback. The key order is the provider's own, that of a Java hash map."""
    return {"eventData": event_data, "event": "TASK_END", "taskId": task_id}


def usage(task: Task, status: Status) -> Document:
    """What a task cost, all in texts. What fails is not charged."""
    paid = status is Status.SUCCESS
    coins = task.coins if paid else None
    return {
        "consumeMoney": None,
        "consumeCoins": None if coins is None else str(coins),
        "taskCostTime": str(task.seconds) if status.ended else None,
        "thirdPartyConsumeMoney": task.order.price if paid else None,
    }


def failed_reason(task: Task, status: Status) -> Document:
    """Why a task failed, with a real list for the traceback; empty when it did not."""
    if status is not Status.FAILED:
        return {}
    node_id, graph = task.outputs[0].node_id, task.order.graph
    return {
        "exception_type": "ModelError",
        "node_id": node_id,
        "node_name": graph[node_id]["class_type"] if graph is not None else task.order.target,
        "traceback": ['File "execution.py", line 317, in execute'],
        "exception_message": message_of(task.plan.error_code),
    }


def _seven_keys(task: Task, status: Status, task_id: str, *, tells: bool) -> Document:
    return {
        "taskId": task_id,
        "status": status.value,
        **_error_of(task, status),
        "results": _results(task, status, nodes=_has_nodes(task)) if tells else None,
        "clientId": task.client_id,
        "promptTips": task.order.prompt_tips,
    }


def _has_nodes(task: Task) -> bool:
    return task.order.kind is not Kind.MODEL


def _kinship(task: Task, status: Status, shown_id: str) -> Document:
    """The parent, which no task of ours has, and what the task and its child used."""
    own = usage(task, status)
    rows = [_used(shown_id, None, status, own)]
    if task.child_id is not None:
        rows[0]["usage"] = {**own, "thirdPartyConsumeMoney": None}
        bill = {**own, "consumeCoins": None, "taskCostTime": "0"}
        rows.append(_used(task.child_id, shown_id, status, bill))
    return {"parentTaskId": None, "taskUsageList": rows}


def _used(task_id: str, parent_id: str | None, status: Status, bill: Document) -> Document:
    # These ids are bare numbers on the wire, beyond what a JavaScript number can hold.
    parent = None if parent_id is None else int(parent_id)
    return {"taskId": int(task_id), "parentTaskId": parent, "taskStatus": status.value, "usage": dict(bill)}


def _error_of(task: Task, status: Status) -> Document:
    code = task.plan.error_code if status is Status.FAILED else ""
    return {"errorCode": code, "errorMessage": (GRAPH_FAILED if _has_nodes(task) else message_of(code)) if code else ""}


def _results(task: Task, status: Status, *, nodes: bool) -> list[Document] | None:
    return [_result(output, nodes) for output in task.outputs] if status is Status.SUCCESS else None


def _result(output: Output, nodes: bool) -> Document:
    # A text is told in place, and then there is no file to link.
    url = output.links[-1] if output.extension != TEXT else None
    node = {"nodeId": output.node_id} if nodes else {}
    return {"url": url, **node, "outputType": output.extension, "text": output.text}
