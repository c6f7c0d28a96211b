"""Owns what every answer has in common: the envelopes, the refusals and their words, times, and the bytes of JSON."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any, TypeAlias

from starlette.types import ASGIApp

Document: TypeAlias = dict[str, Any]
Answer: TypeAlias = ASGIApp | Document
"""What an endpoint gives. A document leaves with HTTP 200, as a refusal does: the body decides."""

BEIJING = timezone(timedelta(hours=8))
MESSAGES = {
    "1000": "unknown error",
    "1001": "invalid url | 无效的请求地址",
    "1002": "invalid api key | 无效的 API Key",
    "1003": "too many requests | 请求过于频繁",
    "1004": "task not found or expired | 任务不存在或已过期",
    "1007": "failed to parse request body",
    "1008": "file too large | 文件过大",
    "1011": "system busy | 系统繁忙",
    "1014": "an Enterprise-Shared API key is required | 需要企业级共享 API Key",
    "1015": "generation failed | 生成失败",
    "1101": "node info error | 节点信息错误",
    "1501": "Content security audit did not pass | 内容安全审查未通过",
    "1504": "model timed out | 模型超时",
}
"""What the provider says to its V2 error codes."""
NAMES = {
    "301": "PARAMS_INVALID",
    "380": "WORKFLOW_NOT_EXISTS",
    "412": "TOKEN_INVALID",
    "414": "TASK_CREATE_FAILED_BY_NOT_ENOUGH_POWER_VALUE",
    "415": "TASK_INSTANCE_MAXED",
    "416": "TASK_CREATE_FAILED_BY_NOT_ENOUGH_WALLET",
    "421": "TASK_QUEUE_MAXED",
    "423": "TASK_NOT_FOUNED",
    "433": "VALIDATE_PROMPT_FAILED",
    "435": "TASK_USER_EXCLAPI_INSTANCE_NOT_FOUND",
    "436": "TASK_USER_EXCLAPI_REQUIRED",
    "500": "UNKNOWN_ERROR",
    "801": "APIKEY_UNSUPPORTED_FREE_USER",
    "802": "APIKEY_UNAUTHORIZED",
    "803": "APIKEY_INVALID_NODE_INFO",
    "804": "APIKEY_TASK_IS_RUNNING",
    "805": "APIKEY_TASK_STATUS_ERROR",
    "806": "APIKEY_USER_NOT_FOUND",
    "807": "APIKEY_TASK_NOT_FOUND",
    "808": "APIKEY_UPLOAD_FAILED",
    "809": "APIKEY_FILE_SIZE_EXCEEDED",
    "810": "WORKFLOW_NOT_SAVED_OR_NOT_RUNNING",
    "811": "CORPAPIKEY_INVALID",
    "812": "CORPAPIKEY_INSUFFICIENT_FUNDS",
    "813": "APIKEY_TASK_IS_QUEUED",
    "814": "PERSONAL_QUEUE_COUNT_LIMIT",
    "901": "WEBAPP_NOT_EXISTS",
    "1601": "param apiKey is required",
}
"""What the provider calls its V1 codes, its own misspelling kept."""
IN_V2 = {"301": "1007", "803": "1101"}
"""V1 codes that have a V2 one of their own; a V2 refusal tells the others as they are."""


class Family(StrEnum):
    """How an endpoint words its answers, and where it wants the key: V2 and MEDIA in the header, V1 in the body."""

    V1 = "v1"
    """`{code, msg, data}`."""
    V2 = "v2"
    """The bare task object."""
    MEDIA = "media"
    """`{code, message, data}`: the V2 endpoints around uploads and keys."""
    STORAGE = "storage"
    """HTTP statuses and XML, to whoever has a link."""


class Refused(Exception):
    """A refusal before it is put into an envelope: the provider's code, and its sentence if it is not the usual."""

    def __init__(self, code: int | str, message: str | None = None, *, as_number: bool = False) -> None:
        super().__init__(code, message)
        self.code = str(code)
        self.message = message
        self.as_number = as_number
        """Whether V2 tells the code as a number, as was reported of one of them."""

    def worded(self, family: Family) -> Document:
        """The refusal in a family's envelope."""
        if family is Family.V2:
            code = IN_V2.get(self.code, self.code)
            return refusal(int(code) if self.as_number else code, self.message)
        message = self.message if self.message is not None else message_of(self.code)
        return {"code": int(self.code), "msg" if family is Family.V1 else "message": message, "data": None}


class KeyMissing(Refused):
    """The refusal of a request without a key in its header, in an envelope of its own."""

    def worded(self, family: Family) -> Document:
        return {"code": int(self.code), "msg": message_of(self.code)}


class StorageRefused(Exception):
    """A refusal by the file storage: an HTTP status, and the storage's own error code."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status = status
        self.xml = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error><Code>{code}</Code></Error>"


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """The document as compact UTF-8 JSON, its keys in the order in which they stand."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def said(answer: Document) -> str:
    """What an answer comes to, in a few words: the refusal with its code, or the task it is about and its status."""
    code = answer.get("code") or answer.get("errorCode")
    message = answer.get("msg") or answer.get("message") or answer.get("errorMessage")
    if code:
        return f"refused with {code}: {message}"
    about = answer["data"] if isinstance(answer.get("data"), dict) else answer
    words = [str(about[name]) for name in ("taskId", "status", "taskStatus") if about.get(name)]
    return " ".join(words) or "ok"


def local_time(at: float) -> str:
    """Seconds since 1970 as the provider writes times: UTC+8, whole seconds, no zone."""
    return datetime.fromtimestamp(int(at), UTC).astimezone(BEIJING).strftime("%Y-%m-%dT%H:%M:%S")


def envelope(data: object = None, *, code: int = 0, msg: str = "success") -> Document:
    """The V1 envelope of every `/task/openapi` answer (page "Get Webhook Event Details")."""
    return {"code": code, "msg": msg, "data": data}


def media_envelope(data: object) -> Document:
    """The envelope of uploads and keys, which says `message` where the others say `msg`."""
    return {"code": 0, "message": "success", "data": data}


def refusal(error_code: str | int, message: str | None = None) -> Document:
    """A V2 task object that names no task: how submit and query refuse (page "Generate task submission results")."""
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
    """The provider's words for an error code, general ones for codes it never explained to us."""
    return MESSAGES.get(error_code) or NAMES.get(error_code, "task failed | 任务失败")
