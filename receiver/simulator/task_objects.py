"""Owns the V2 task object in its variants: as submitted, as queried, and as the event data of a callback."""

from receiver.simulator.answers import Document, message_of
from receiver.simulator.orders import TEXT, Kind
from receiver.simulator.tasks import Status, Task

GRAPH_FAILED = "工作流运行失败"
"""All that the error message says when a graph fails; the reason stands elsewhere."""


def submitted(task: Task) -> Document:
    """The answer to an accepted submission: the seven keys of the submit example (page "Standard Model API")."""
    return _task_object(task, task.status, task.id, _results(task, task.status, nodes=_has_nodes(task)))


def queried(task: Task, status: Status) -> Document:
    """The answer to a query that says `status` (page "Query generation result (V2)")."""
    results = _results(task, status, nodes=True) if task.tells_results else None
    # Not on the page, whose example is a model's: what was seen of tasks that may have children.
    kinship = _kinship(task, status, task.id) if _has_nodes(task) else {}
    return {**_task_object(task, status, task.id, results, **_reckoning(task, status)), **kinship}


def ended(task: Task, status: Status, task_id: str) -> Document:
    """The event data of a V2 callback: the task object as it was captured from real callbacks, in that key order.

    `status` and `task_id` differ from the task's own where a callback is to lie.
    """
    tells = status is not task.status or task.tells_results
    results = _results(task, status, nodes=_has_nodes(task)) if tells else None
    kinship = _kinship(task, status, task_id)
    return {**_task_object(task, status, task_id, results), **_reckoning(task, status), **kinship}


def callback(event_data: Document, task_id: str) -> Document:
    """The body of a V2 callback. The key order is the provider's own, that of a Java hash map."""
    return {"eventData": event_data, "event": "TASK_END", "taskId": task_id}


def usage(task: Task, status: Status) -> Document:
    """What a task cost, all in texts. What fails is not charged."""
    paid = status is Status.SUCCESS
    return {
        "consumeMoney": None,
        "consumeCoins": str(task.coins) if paid and task.coins is not None else None,
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


def _task_object(
    task: Task, status: Status, task_id: str, results: list[Document] | None, **reckoning: Document
) -> Document:
    """The seven keys of every task object, and where a query tells more of its end."""
    code = task.plan.error_code if status is Status.FAILED else ""
    return {
        "taskId": task_id,
        "status": status.value,
        "errorCode": code,
        "errorMessage": (GRAPH_FAILED if _has_nodes(task) else message_of(code)) if code else "",
        **reckoning,
        "results": results,
        "clientId": task.client_id,
        "promptTips": task.order.prompt_tips,
    }


def _reckoning(task: Task, status: Status) -> Document:
    return {"failedReason": failed_reason(task, status), "usage": usage(task, status)}


def _has_nodes(task: Task) -> bool:
    return task.order.kind is not Kind.MODEL


def _kinship(task: Task, status: Status, shown_id: str) -> Document:
    """The parent, which no task of ours has, and what the task and its child used."""
    own = usage(task, status)
    bills: list[tuple[str, str | None, Document]] = [(shown_id, None, own)]
    if task.child_id is not None:
        bills = [(shown_id, None, {**own, "thirdPartyConsumeMoney": None})]
        bills.append((task.child_id, shown_id, {**own, "consumeCoins": None, "taskCostTime": "0"}))
    # These ids are bare numbers on the wire, beyond what a JavaScript number can hold.
    rows = [
        {"taskId": int(id), "parentTaskId": parent and int(parent), "taskStatus": status.value, "usage": bill}
        for id, parent, bill in bills
    ]
    return {"parentTaskId": None, "taskUsageList": rows}


def _results(task: Task, status: Status, *, nodes: bool) -> list[Document] | None:
    if status is not Status.SUCCESS:
        return None
    return [
        {
            # A text is told in place, and then there is no file to link.
            "url": None if output.extension == TEXT else output.links[-1],
            **({"nodeId": output.node_id} if nodes else {}),
            "outputType": output.extension,
            "text": output.text,
        }
        for output in task.outputs
    ]
