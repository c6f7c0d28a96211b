"""Bytes from RunningHub to records and back. Pure and total: no bytes, however hostile, raise anything but Unreadable.

The provider speaks four envelopes: V1 `{code, msg, data}`, the bare V2 task object, `{code, message, data}` for uploads
and keys, and `{code, msg}` where a V2 request was refused before dispatch. Its callback wraps either a JSON text (V1)
or a V2 task object (pages "Start ComfyUI Task 2 - Advanced" and "Query generation result (V2)"). Fields we do not know
are kept; ids are decimal texts of 64 bits whatever JSON type they came as.
"""

import re

import msgspec
from msgspec import Struct

from receiver.model.errors import ReceiverError
from receiver.model.records import Account, End, Json, JsonObject, Result, TaskError
from receiver.model.rules import CALLBACK_VALUES, DOCUMENT_VALUES, is_gateways
from receiver.model.views import WebhookView
from receiver.runninghub.errors import CODES, NO_SUCH_TASK, RUN_FAILED, describe, told
from receiver.runninghub.lenient import mended

DEPTH = 32
"""Deeper nesting than this in a field we do not know is dropped."""
BOM = b"\xef\xbb\xbf"
"""What editors on Windows write before a text. It is no part of it, but a stranger's bytes must not begin so."""
MARKS = (b",", b"[", b"{")
"""What stands before a value, but for the first."""
ID_LIMIT = 64
TEXT_LIMIT = 4000
"""Characters kept of an error's sentence."""

ENDS = {
    "SUCCESS": End.SUCCEEDED,
    "FAILED": End.FAILED,
    **dict.fromkeys(("CANCEL", "CANCELLED", "CANCELED"), End.CANCELLED),
}
RUNNING = frozenset({"CREATE", "QUEUED", "RUNNING"})

# Sentences without a code that were seen, or say the same. The provider writes English, Chinese, or both.
ERROR_WORDS = (
    *("internal", "unknown", "timeout", "timed out", "exception", "connection", "network", "server error"),
    *("system error", "异常", "超时", "未知", "内部", "网络", "系统错误", "服务器错误"),
)
"""An error of which nobody can tell when it struck: the task may exist."""
BUSY_WORDS = (
    *("busy", "queue limit", "queue is full", "queue full", "too many requests"),
    *("繁忙", "负载已饱和", "队列已满", "排队已满"),
)
PLACE, NO_NUMBER = re.compile(r"\(byte (\d+)\)"), re.compile(rb"NaN|Infinity")
NAME = re.compile(r"[A-Z0-9]+(?:_[A-Z0-9]+)+")
BY_NAME = {entry.name: code for code, entry in CODES.items() if code.isdecimal()}
"""The provider's own names of its codes, which it says now and then in place of the code."""
AGAIN_WORDS = ("try again", "retry", "稍后重试", "稍后再试")
"""What is said after an error of any kind, so alone it does not say that nothing was taken."""

V2_FIELDS = frozenset({"taskId", "status", "errorCode", "errorMessage", "results", "failedReason", "usage"})
CALLBACK_FIELDS = frozenset({"event", "eventData", "taskId"})
CREATED_FIELDS = frozenset({"taskId", "taskStatus"})
USAGE_FIELDS = ("consumeMoney", "consumeCoins", "taskCostTime", "thirdPartyConsumeMoney")


class Unreadable(ReceiverError):
    """These bytes are not what RunningHub sends; the message says why, without quoting them."""


class TaskReport(Struct, frozen=True, kw_only=True):
    """What a callback or an answer says of a task; `end` is None while it runs, `known` false for no such task."""

    task_id: str | None = None
    status: str = ""
    end: End | None = None
    known: bool = True
    results: list[Result] = []
    error: TaskError | None = None
    usage: JsonObject = {}
    extra: JsonObject = {}


class Envelope(Struct, frozen=True, kw_only=True):
    """A V1 answer. `code` is a text, "0" for success."""

    code: str
    message: str
    data: Json


class WebhookDetail(WebhookView, frozen=True, kw_only=True):
    """A webhook event whole (page "Get Webhook Event Details"); `report` is None until the task ended."""

    task_id: str | None
    url: str
    report: TaskReport | None


def read_json(body: bytes, values: int = DOCUMENT_VALUES) -> Json:
    """Any bytes as JSON data, cleaned: no NUL in texts, no numbers that cannot be stored. Raises Unreadable."""
    return _clean(decode_json(body, values), DEPTH)


def decode_json(body: bytes, values: int = DOCUMENT_VALUES) -> Json:
    """Any bytes as JSON data of so many values, as it stands there. Raises Unreadable, which says where it is wrong."""
    if _has_more_values(body, values):
        raise Unreadable(f"more than {values} values")
    try:
        decoded: Json = msgspec.json.decode(body)
        return decoded
    except RecursionError:
        raise Unreadable("not JSON: nested too deeply") from None
    except UnicodeError:
        raise Unreadable("not JSON: not UTF-8") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise Unreadable(f"not JSON: {_malformed(body, str(error))}") from None


def _has_more_values(body: bytes, most: int) -> bool:
    """Counted before anything is read: a value costs a hundred times its two bytes. What stands in texts is none."""
    if len(body) <= most or sum(map(body.count, MARKS)) <= most:
        return False
    texts = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if texts.count(b'"') > 4 * most:  # each value is one text at the most, and has another for its name
        return True
    return sum(sum(map(each.count, MARKS)) for each in texts.split(b'"')[::2]) > most


def _malformed(body: bytes, said: str) -> str:
    """What is wrong with a body and where: told by name for what Python and ComfyUI write where there is no number."""
    place = PLACE.search(said)
    word = NO_NUMBER.match(body, int(place[1])) if place else None
    what = f"{word[0].decode()} is no number; put a number or null there" if word else "invalid character"
    return said.removeprefix("JSON is malformed: ").replace("invalid character", what)


def read_object(body: bytes, values: int = DOCUMENT_VALUES) -> JsonObject:
    """Any bytes as a JSON object, cleaned as above. Raises Unreadable."""
    payload = read_json(body, values)
    if not isinstance(payload, dict):
        raise Unreadable("not a JSON object")
    return payload


def from_text(value: Json, values: int = DOCUMENT_VALUES) -> Json:
    """JSON data that the provider sends now as it is, and now as a text. Raises Unreadable."""
    return read_json(value.encode(), values) if isinstance(value, str) else value


def read_callback(body: bytes) -> TaskReport:
    """A callback's body, in any of the shapes that were documented or seen. Raises Unreadable."""
    payload = read_object(body, CALLBACK_VALUES)
    inner = from_text(payload.get("eventData"), CALLBACK_VALUES)
    if inner is None:
        inner = payload
    if not isinstance(inner, dict):
        raise Unreadable("eventData is neither an object nor the text of one")
    report = read_report(inner)
    around = {} if inner is payload else _unknown_fields(payload, CALLBACK_FIELDS)
    task_id = read_id(payload.get("taskId")) or report.task_id
    return msgspec.structs.replace(report, task_id=task_id, extra={**around, **report.extra})


def read_report(data: JsonObject) -> TaskReport:
    """A V2 task object, or a V1 answer of the outputs endpoint. Raises Unreadable when it is neither."""
    if isinstance(data.get("status"), str) and data["status"]:
        return _read_v2(data)
    if _is_code(data.get("code")):
        return _read_v1(data)
    code = read_code(data.get("errorCode"))
    if code or text_of(data, "errorMessage"):
        return _read_v2({**data, "status": "FAILED"}) if code not in NO_SUCH_TASK else TaskReport(known=False)
    raise Unreadable("neither a status nor a code")


def read_task_object(body: bytes) -> tuple[TaskReport | None, str, str]:
    """An answer of a V2 task endpoint as (report, error code, error message); the report is None for a refusal.

    A refusal has no task id, and an errorCode or its sentence alone; or it is an envelope of its own with a code. An
    error beside signs of a task has no code here, so that nobody takes the task for refused. Raises Unreadable.
    """
    payload = read_object(body)
    code = read_code(payload.get("errorCode")) or read_code(payload.get("code"))
    if read_id(payload.get("taskId")) is not None:
        return _read_v2(payload), code, _error_sentence(payload)
    code = "" if _may_have_task(payload) else _refusal_code(code, payload)
    if text_of(payload, "status").upper() in (RUNNING | ENDS.keys()):
        return _read_v2(payload), code, _error_sentence(payload)
    if code:
        return None, code, _error_sentence(payload)
    raise Unreadable("neither a task nor an error code")


def read_created(body: bytes) -> tuple[TaskReport | None, str, str]:
    """A V1 answer to a submission as (report, error code, error message). Raises Unreadable.

    `promptTips` may list validation problems although the task was started, so it decides nothing. An error beside a
    task id proves neither: it is Unreadable, so that nobody takes the task for refused.
    """
    payload = read_object(body)
    if not _may_have_task(payload):
        code = _refusal_code(read_code(payload.get("code")), payload)
        if code:
            return None, code, _error_sentence(payload)
    envelope = read_envelope(body)
    if envelope.code != "0":
        raise Unreadable("an error code beside a task id")
    data = object_of(envelope.data, "success")
    task_id, status = read_id(data.get("taskId")), text_of(data, "taskStatus").upper()
    if task_id is None:
        raise Unreadable("success without a task id")
    return TaskReport(task_id=task_id, status=status, extra=_unknown_fields(data, CREATED_FIELDS)), "", ""


def read_envelope(body: bytes) -> Envelope:
    """A V1 answer. Raises Unreadable."""
    payload = read_object(body)
    code = payload.get("code")
    if not _is_code(code):
        raise Unreadable("no code")
    return Envelope(code=str(code), message=text_of(payload, "msg", "message"), data=payload.get("data"))


def read_webhook_detail(data: Json) -> WebhookDetail:
    """The data of a webhook detail. Raises Unreadable."""
    data = object_of(data, "a webhook detail")
    webhook_id, retries = read_id(data.get("id")), data.get("retryCount")
    if webhook_id is None:
        raise Unreadable("a webhook detail without an id")
    return WebhookDetail(
        id=webhook_id,
        task_id=read_id(data.get("taskId")),
        url=text_of(data, "webhookUrl"),
        status=text_of(data, "callbackStatus").upper() or None,
        response=text_of(data, "callbackResponse")[:TEXT_LIMIT],
        retry_count=retries if isinstance(retries, int) and not isinstance(retries, bool) else 0,
        report=_event_data(data.get("eventData")),
    )


def read_account(data: Json) -> Account:
    """The data of an account's status (page "Get Account Information"). Raises Unreadable."""
    data = object_of(data, "an account")
    coins, money, currency, tasks, kind = (
        None if isinstance(value := data.get(name), dict | list | None) else str(value)
        for name in ("remainCoins", "remainMoney", "currency", "currentTaskCounts", "apiType")
    )
    return Account(coins=coins, money=money, currency=currency, tasks=tasks, type=kind)


def read_id(value: Json) -> str | None:
    """A 64-bit id from a text or an integer. A float has lost its last digits already and is no id."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if 0 < value < 2**64 else None
    text = value.strip() if isinstance(value, str) else ""
    return text if 0 < len(text) <= ID_LIMIT and text.isprintable() else None


def read_code(value: Json) -> str:
    """An error code as text; none, "" and 0 are "no error"."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return ""
    code = str(value).strip()[:ID_LIMIT]
    return "" if code == "0" else code


def object_of(data: Json, what: str) -> JsonObject:
    """An envelope's data as the object that it must be. Raises Unreadable, which says `what` has none."""
    if not isinstance(data, dict):
        raise Unreadable(f"{what} without data")
    return data


def text_of(data: Json, *names: str) -> str:
    """The first text in these fields of an object; "" for none."""
    values = [data.get(name) for name in names] if isinstance(data, dict) else []
    return next((value for value in values if isinstance(value, str) and value), "")


def _event_data(value: Json) -> TaskReport | None:
    try:
        data = from_text((mended(value.encode()) or b"null").decode() if isinstance(value, str) else value)
        return read_report(data) if isinstance(data, dict) and data else None
    except Unreadable:
        return None


def _error_sentence(payload: Json) -> str:
    return text_of(payload, "errorMessage", "message", "msg")


def _may_have_task(payload: JsonObject) -> bool:
    """Whether an answer without an id that can be read speaks of a task all the same, or calls itself a success."""
    data = payload.get("data")
    ids = (payload.get("taskId"), data.get("taskId") if isinstance(data, dict) else None)
    alive = text_of(payload, "status").upper() in RUNNING | {"SUCCESS"}
    return alive or payload.get("code") in (0, "0") or any(each not in (None, "", 0) for each in ids)


def _refusal_code(code: str, payload: Json) -> str:
    """The code of an answer without a task: its own where it is known, else what its words come to; "" for nothing.

    Words never soften a code that is known: 1000 with "busy" may have struck after the task was made.
    """
    sentence = _error_sentence(payload)
    words = _code_by_words(sentence)
    named = next((BY_NAME[name] for name in NAME.findall(f"{code} {sentence}") if name in BY_NAME), None)
    if named is not None and code not in CODES:
        return named
    if code and (words != "busy" or code in CODES or is_gateways(code)):
        return code
    return words if words == "busy" or text_of(payload, "errorMessage") else ""


def _code_by_words(message: str) -> str:
    """What a sentence without a code comes to: `busy` only where it says so and nothing of an error."""
    said = message.lower()
    if any(words in said for words in ERROR_WORDS):
        return "unclear"
    if any(words in said for words in BUSY_WORDS):
        return "busy"
    return "unclear" if any(words in said for words in AGAIN_WORDS) else "refused"


def _read_v2(data: JsonObject) -> TaskReport:
    status = text_of(data, "status").upper()
    end = ENDS.get(status)
    code = read_code(data.get("errorCode"))
    results = _results(data.get("results"), "url", "outputType")
    if _has_failed(code, data, end, results):
        status, end = "FAILED", End.FAILED
    reason = _failed_reason(data.get("failedReason"))
    message = text_of(reason, "exception_message") or _error_sentence(data)
    return TaskReport(
        task_id=read_id(data.get("taskId")),
        status=status,
        end=end,
        known=code not in NO_SUCH_TASK,
        results=results,
        error=_error(code, message) if end not in (None, End.SUCCEEDED) else None,
        usage=_usage(data.get("usage")) | _children(data),
        extra={**_unknown_fields(data, V2_FIELDS), **({"failedReason": reason} if reason else {})},
    )


def _has_failed(code: str, data: JsonObject, end: End | None, results: list[Result]) -> bool:
    """Whether an object says by its error, and not by its status, that the task failed.

    The vendor's own client looks at errorCode and errorMessage before the status, and fails at either. Here a code must
    be one that is said of a run, and a sentence one that is no passing trouble: a refused question ends no task. And
    what was made was made, whatever is said of it.
    """
    if end is None:
        said = text_of(data, "errorMessage")
        return code in RUN_FAILED or (not code and bool(said) and _code_by_words(said) == "refused")
    return end is End.SUCCEEDED and not results and code in RUN_FAILED


def _failed_reason(value: Json) -> Json:
    """Why a task failed: an object, though the schema of the page calls it a text."""
    try:
        return from_text(value) if isinstance(value, str) and value.lstrip().startswith("{") else value
    except Unreadable:
        return value


def _read_v1(envelope: JsonObject) -> TaskReport:
    """The answer of the outputs endpoint (page "Check Task Output"): 804 and 813 are states, 805 is a failure."""
    code = read_code(envelope.get("code"))
    data = envelope.get("data")
    inner: JsonObject = data if isinstance(data, dict) else {}
    error: JsonObject = {"errorCode": code, "errorMessage": text_of(envelope, "msg", "message")} if code else {}
    if isinstance(inner.get("status"), str):
        return _read_v2({**error, **inner})
    if code in ("804", "813"):
        return TaskReport(status="RUNNING" if code == "804" else "QUEUED")
    if code in NO_SUCH_TASK:
        return TaskReport(known=False)
    if code:
        return _read_v2({**error, "status": "FAILED", "failedReason": inner.get("failedReason")})
    items = data if isinstance(data, list) else []
    usage = _usage(items[0] if items else None)
    return TaskReport(status="SUCCESS", end=End.SUCCEEDED, results=_results(items, "fileUrl", "fileType"), usage=usage)


def _results(items: Json, url: str, kind: str) -> list[Result]:
    if not isinstance(items, list):
        return []
    return [
        Result(
            url=text_of(row, url, "url", "fileUrl", "outputUrl") or None,
            type=text_of(row, kind, "outputType", "fileType") or None,
            text=text_of(row, "text", "content", "output") or None,
            node_id=read_id(row.get("nodeId")),
        )
        for row in items
        if isinstance(row, dict)
    ]


def _usage(usage: Json) -> JsonObject:
    """Money, coins and seconds, as texts: the provider writes them now as texts, now as numbers."""
    if not isinstance(usage, dict):
        return {}
    return {
        name: None if usage[name] is None else str(usage[name])
        for name in USAGE_FIELDS
        if name in usage and not isinstance(usage[name], dict | list)
    }


def _children(data: JsonObject) -> JsonObject:
    """The tasks a task was made of, each with its own usage; its own entry in that list says nothing new."""
    listed = data.get("taskUsageList")
    own = read_id(data.get("taskId"))
    children: list[Json] = [
        {"task_id": child, "status": text_of(each, "taskStatus"), **_usage(each.get("usage"))}
        for each in (listed if isinstance(listed, list) else [])
        if isinstance(each, dict) and (child := read_id(each.get("taskId"))) is not None and child != own
    ]
    return {"children": children} if children else {}


def _error(code: str, message: str) -> TaskError:
    return TaskError(code=code, name=describe(code).name, message=told(code, message)[:TEXT_LIMIT])


def _unknown_fields(data: JsonObject, known: frozenset[str]) -> JsonObject:
    return {name: value for name, value in data.items() if name not in known and value not in (None, "")}


def _is_code(value: Json) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""


def _clean(value: Json, depth: int) -> Json:
    if isinstance(value, str):
        return value.replace("\x00", "")
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return str(value)
    if isinstance(value, dict | list) and depth == 0:
        return None
    if isinstance(value, dict):
        return {name.replace("\x00", ""): _clean(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list):
        return [_clean(item, depth - 1) for item in value]
    return value
