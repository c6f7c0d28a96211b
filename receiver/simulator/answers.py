"""Owns the wording of every answer: the V2 task object in its variants, the V1 envelope, the callback; their bytes."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, TypeAlias

from receiver.simulator.tasks import Status, Task

Document: TypeAlias = dict[str, Any]

BEIJING = timezone(timedelta(hours=8))
MESSAGES = {
    "421": "TASK_QUEUE_MAXED",
    "805": "APIKEY_TASK_STATUS_ERROR",
    "1000": "unknown error",
    "1002": "invalid api key | 无效的 API Key",
    "1003": "too many requests | 请求过于频繁",
    "1004": "task not found or expired | 任务不存在或已过期",
    "1007": "failed to parse request body",
    "1011": "system busy | 系统繁忙",
    "1015": "generation failed | 生成失败",
    "1501": "Content security audit did not pass | 内容安全审查未通过",
    "1504": "model timed out | 模型超时",
}
"""What the provider says to its V2 error codes."""

TOKEN_INVALID: Document = {"code": 412, "msg": "TOKEN_INVALID"}
"""Said before a V2 endpoint even looks: neither envelope nor task object."""


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as compact UTF-8 JSON, its keys in the order in which they stand."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def local_time(at: float) -> str:
    """Seconds since 1970 as the provider writes times: UTC+8, whole seconds, no zone."""
    return datetime.fromtimestamp(int(at), UTC).astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S")


def envelope(data: object = None, *, code: int = 0, msg: str = "success") -> Document:
    """The V1 envelope of every `/task/openapi` answer (page "Get Webhook Event Details")."""
    return {"code": code, "msg": msg, "data": data}


def refusal(error_code: str | int, message: str | None = None) -> Document:
    """A V2 task object that names no task: how submit and query say no (page "Generate task submission results")."""
    return {
        "taskId": "",
        "status": "",
        "errorCode": error_code,
        "errorMessage": message if message is not None else message_of(str(error_code)),
        "results": None,
        "clientId": "",
        "promptTips": "",
    }


def message_of(error_code: str) -> str:
    """The provider's sentence for an error code, a general one for codes it never explained to us."""
    return MESSAGES.get(error_code, "task failed | 任务失败")


def submitted(task: Task) -> Document:
    """The answer to an accepted submission: the seven keys of the submit example (page "Standard Model API")."""
    return {
        "taskId": task.id,
        "status": task.status.value,
        **_error_of(task, task.status),
        "results": _results(task, task.status),
        "clientId": task.client_id,
        "promptTips": "",
    }


def queried(task: Task, status: Status) -> Document:
    """The answer to a query that says `status` (page "Query generation result (V2)")."""
    results = _results(task, status) if task.tells_results else None
    return {
        "taskId": task.id,
        "status": status.value,
        **_error_of(task, status),
        "failedReason": _failed_reason(task, status),
        "usage": _usage(task, status),
        "results": [{"url": row["url"], "nodeId": "2", **row} for row in results] if results else None,
        "clientId": task.client_id,
        "promptTips": "",
    }


def ended(task: Task, status: Status, *, task_id: str | None = None) -> Document:
    """The event data of a V2 callback: the task object as it was captured from real callbacks, in that key order.

    `status` and `task_id` differ from the task's own where a callback is to lie.
    """
    shown_id = task_id or task.id
    usage = _usage(task, status)
    return {
        "taskId": shown_id,
        "status": status.value,
        **_error_of(task, status),
        "results": _results(task, status) if status is not task.status or task.tells_results else None,
        "clientId": task.client_id,
        "promptTips": "",
        "failedReason": _failed_reason(task, status),
        "usage": usage,
        "parentTaskId": None,
        # This one id is a bare number on the wire, beyond what a JavaScript number can hold.
        "taskUsageList": [
            {"taskId": int(shown_id), "parentTaskId": None, "taskStatus": status.value, "usage": dict(usage)}
        ],
    }


def callback(event_data: Document, task_id: str) -> Document:
    """The body of a V2 callback. The key order is the provider's own, that of a Java hash map."""
    return {"eventData": event_data, "event": "TASK_END", "taskId": task_id}


def _error_of(task: Task, status: Status) -> Document:
    code = task.plan.error_code if status is Status.FAILED else ""
    return {"errorCode": code, "errorMessage": message_of(code) if code else ""}


def _failed_reason(task: Task, status: Status) -> Document:
    if status is not Status.FAILED:
        return {}
    return {
        "exception_type": "ModelError",
        "node_id": "2",
        "node_name": task.model,
        "traceback": ['File "execution.py", line 317, in execute'],
        "exception_message": message_of(task.plan.error_code),
    }


def _usage(task: Task, status: Status) -> Document:
    # A third party's model costs no machine time of the provider, hence the "0"; what fails is not charged.
    price = task.price if status is Status.SUCCESS else None
    spent = "0" if status.ended else None
    return {"consumeMoney": None, "consumeCoins": None, "taskCostTime": spent, "thirdPartyConsumeMoney": price}


def _results(task: Task, status: Status) -> list[Document] | None:
    if status is not Status.SUCCESS:
        return None
    return [{"url": task.links[-1], "outputType": task.output_type, "text": None}]
