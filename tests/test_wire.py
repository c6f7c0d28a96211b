"""What RunningHub says, in every shape that was documented or seen, and what strangers may send in its name."""

import json
import sqlite3
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from receiver.model.records import End, Json, JsonObject, Result, TaskError
from receiver.runninghub import hints, wire
from receiver.runninghub.hints import Hint, read_hint
from receiver.runninghub.wire import DEPTH, ID_LIMIT, TEXT_LIMIT, Envelope, TaskReport, Unreadable, WebhookDetail

TASK = "1904163390028185602"
WEBHOOK = "1904444422778503169"
URL = "https://files.example/output/ComfyUI_00033_hpgko_1742822929.png"
SENTINEL = "never-quote-me"
MODEST = settings(deadline=None, max_examples=30, derandomize=True)


def as_bytes(value: object) -> bytes:
    return msgspec.json.encode(value)


def v1(inner: object) -> bytes:
    """A V1 callback: eventData is a JSON text."""
    return as_bytes({"event": "TASK_END", "taskId": TASK, "eventData": as_bytes(inner).decode()})


def v2(**fields: object) -> bytes:
    """A V2 callback: eventData is an object, in the order of keys that was captured."""
    return as_bytes({"eventData": {"taskId": TASK, **fields}, "event": "TASK_END", "taskId": TASK})


def succeeded(*results: Result, **more: object) -> TaskReport:
    return outcome(status="SUCCESS", end=End.SUCCEEDED, results=list(results), **more)


def failed(code: str, name: str, message: str, **more: object) -> TaskReport:
    error = TaskError(code=code, name=name, message=message)
    return outcome(**{"status": "FAILED", "end": End.FAILED, "error": error, **more})


def outcome(**fields: object) -> TaskReport:
    return TaskReport(**{"task_id": TASK, **fields})  # type: ignore[arg-type]


PNG = Result(url=URL, type="png", node_id="9")
V1_ITEM: JsonObject = {"fileUrl": URL, "fileType": "png", "taskCostTime": 0, "nodeId": "9"}
V2_ITEM: JsonObject = {"url": URL, "outputType": "png", "nodeId": "9", "text": None}
REASON: JsonObject = {
    "exception_type": "RuntimeError",
    "node_name": "KSampler",
    "current_inputs": "{}",
    "traceback": '["line 1"]',
    "node_id": "3",
    "exception_message": "out of memory",
}

# The bytes of a real server as they were captured, with made-up files: a 64-bit number that is not quoted.
CAPTURE = b"""{"eventData":{"taskId":"2052287938007814145","status":"SUCCESS","errorCode":"","errorMessage":"",
"results":[{"url":"https://files.example/output/a.jpg","outputType":"jpg","text":null}],
"clientId":"","promptTips":"","failedReason":{},
"usage":{"consumeMoney":null,"consumeCoins":null,"taskCostTime":"0","thirdPartyConsumeMoney":"0.14"},
"parentTaskId":null,
"taskUsageList":[{"taskId":2052287938007814145,"parentTaskId":null,"taskStatus":"SUCCESS",
"usage":{"consumeMoney":null,"consumeCoins":null,"taskCostTime":"0","thirdPartyConsumeMoney":"0.14"}}]},
"event":"TASK_END","taskId":"2052287938007814145"}"""
CAPTURED_USAGE: JsonObject = {
    "consumeMoney": None,
    "consumeCoins": None,
    "taskCostTime": "0",
    "thirdPartyConsumeMoney": "0.14",
}
CAPTURED = TaskReport(
    task_id="2052287938007814145",
    status="SUCCESS",
    end=End.SUCCEEDED,
    results=[Result(url="https://files.example/output/a.jpg", type="jpg")],
    usage=CAPTURED_USAGE,
    extra={
        "taskUsageList": [
            {
                "taskId": 2052287938007814145,
                "parentTaskId": None,
                "taskStatus": "SUCCESS",
                "usage": CAPTURED_USAGE,
            }
        ]
    },
)

CALLBACKS: dict[str, tuple[bytes, TaskReport]] = {
    "v1 success": (
        v1({"code": 0, "msg": "success", "data": [V1_ITEM]}),
        succeeded(PNG, usage={"taskCostTime": "0"}),
    ),
    "v1 success, message in capitals": (
        v1({"code": 0, "msg": "SUCCESS", "data": [V1_ITEM]}),
        succeeded(PNG, usage={"taskCostTime": "0"}),
    ),
    "v1 success, nothing saved": (v1({"code": 0, "msg": "success", "data": []}), succeeded()),
    "v1 failure": (
        v1({"code": 805, "msg": "APIKEY_TASK_STATUS_ERROR", "data": {"failedReason": REASON}}),
        failed("805", "APIKEY_TASK_STATUS_ERROR", "out of memory", extra={"failedReason": REASON}),
    ),
    "v1 failure without a reason": (
        v1({"code": 805, "msg": "", "data": None}),
        failed("805", "APIKEY_TASK_STATUS_ERROR", "the task failed, was interrupted or cancelled"),
    ),
    "v1 failure, code as a text": (
        v1({"code": "805", "msg": "stopped"}),
        failed("805", "APIKEY_TASK_STATUS_ERROR", "stopped"),
    ),
    "v1 unknown code": (v1({"code": 4711, "msg": "odd"}), failed("4711", "CODE_4711", "odd")),
    "v1 running": (
        v1({"code": 804, "msg": "APIKEY_TASK_IS_RUNNING", "data": {"netWssUrl": "wss://x"}}),
        outcome(status="RUNNING"),
    ),
    "v1 queued": (v1({"code": 813, "msg": "APIKEY_TASK_IS_QUEUED", "data": None}), outcome(status="QUEUED")),
    "v1 no such task": (v1({"code": 807, "msg": "APIKEY_TASK_NOT_FOUND", "data": None}), outcome(known=False)),
    "v2 success": (
        v2(
            status="SUCCESS",
            errorCode="",
            errorMessage="",
            results=[V2_ITEM],
            failedReason={},
            usage={"consumeCoins": "7"},
        ),
        succeeded(PNG, usage={"consumeCoins": "7"}),
    ),
    "v2 failure": (
        v2(status="FAILED", errorCode="1501", errorMessage="did not pass | 未通过", results=None, failedReason={}),
        failed("1501", "CONTENT_REFUSED", "did not pass | 未通过"),
    ),
    "v2 failure, the exception says more": (
        v2(status="FAILED", errorCode="1000", errorMessage="工作流运行失败", failedReason=REASON),
        failed("1000", "UNKNOWN_ERROR", "out of memory", extra={"failedReason": REASON}),
    ),
    "v2 failure, code as a number": (
        v2(status="FAILED", errorCode=1501, errorMessage="no"),
        failed("1501", "CONTENT_REFUSED", "no"),
    ),
    "v2 failure, no reason at all": (v2(status="FAILED"), failed("", "FAILED", "the provider gave no reason")),
    "v2 cancelled": (
        v2(status="CANCEL", errorCode="", results=None),
        failed("", "FAILED", "the provider gave no reason", status="CANCEL", end=End.CANCELLED),
    ),
    "v2 cancelled, other spelling": (
        v2(status="Canceled", errorCode="805"),
        failed(
            "805",
            "APIKEY_TASK_STATUS_ERROR",
            "the task failed, was interrupted or cancelled",
            status="CANCELED",
            end=End.CANCELLED,
        ),
    ),
    "v2 success in small letters": (v2(status="success", results=[V2_ITEM]), succeeded(PNG)),
    "v2 success, empty results": (v2(status="SUCCESS", results=[]), succeeded()),
    "v2 success, null results": (v2(status="SUCCESS", results=None), succeeded()),
    "v2 text results": (
        v2(status="SUCCESS", results=[{"url": None, "nodeId": "4", "outputType": "txt", "text": "a lighthouse"}]),
        succeeded(Result(text="a lighthouse", type="txt", node_id="4")),
    ),
    "v2 results under other names": (
        v2(status="SUCCESS", results=[{"outputUrl": URL}, {"content": "one"}, {"output": "two"}, "junk", None]),
        succeeded(Result(url=URL), Result(text="one"), Result(text="two")),
    ),
    "v2 still running": (v2(status="RUNNING", errorCode="", results=None), outcome(status="RUNNING")),
    "v2 a status nobody knows": (v2(status="PAUSED"), outcome(status="PAUSED")),
    "nested": (
        as_bytes(
            {
                "event": "TASK_END",
                "taskId": TASK,
                "eventData": {"code": 0, "msg": "success", "data": {"status": "SUCCESS", "results": [V2_ITEM]}},
            }
        ),
        succeeded(PNG),
    ),
    "nested failure": (
        as_bytes({"taskId": TASK, "eventData": {"code": 805, "msg": "stopped", "data": {"status": "FAILED"}}}),
        failed("805", "APIKEY_TASK_STATUS_ERROR", "stopped"),
    ),
    "flat v2": (as_bytes({"taskId": TASK, "status": "SUCCESS", "results": [V2_ITEM]}), succeeded(PNG)),
    "flat v2 failure without a status": (
        as_bytes({"taskId": TASK, "errorCode": "1501", "errorMessage": "no"}),
        failed("1501", "CONTENT_REFUSED", "no"),
    ),
    "flat v1": (
        as_bytes({"taskId": TASK, "code": 0, "msg": "", "data": [V1_ITEM]}),
        succeeded(PNG, usage={"taskCostTime": "0"}),
    ),
    "eventData is the text null": (
        as_bytes({"taskId": TASK, "eventData": "null", "status": "SUCCESS"}),
        succeeded(extra={"eventData": "null"}),
    ),
    "eventData is the text of a v2 object": (v1({"status": "SUCCESS", "results": [V2_ITEM]}), succeeded(PNG)),
    "capture": (CAPTURE, CAPTURED),
    "unknown fields, inside and outside": (
        as_bytes(
            {
                "event": "TASK_END",
                "taskId": TASK,
                "eventData": {"status": "SUCCESS", "progress": {"step": 4}, "promptTips": "{}", "empty": ""},
                "attempt": 2,
                "nothing": None,
            }
        ),
        succeeded(extra={"progress": {"step": 4}, "promptTips": "{}", "attempt": 2}),
    ),
    "the id only inside": (
        as_bytes({"event": "TASK_END", "eventData": {"taskId": TASK, "status": "SUCCESS"}}),
        succeeded(),
    ),
    "two ids: the outer one counts": (
        as_bytes({"taskId": TASK, "eventData": {"taskId": "1", "status": "SUCCESS"}}),
        succeeded(),
    ),
    "numbers in usage": (
        v2(
            status="SUCCESS",
            usage={"taskCostTime": 78, "thirdPartyConsumeMoney": 0.14, "consumeCoins": [7], "other": "1"},
        ),
        succeeded(usage={"taskCostTime": "78", "thirdPartyConsumeMoney": "0.14"}),
    ),
}


@pytest.mark.parametrize(("body", "expected"), CALLBACKS.values(), ids=CALLBACKS.keys())
def test_every_shape_of_a_callback_is_understood(body: bytes, expected: TaskReport) -> None:
    assert wire.read_callback(body) == expected


def test_a_number_of_64_bits_keeps_its_last_digit() -> None:
    read = wire.read_callback(CAPTURE.replace(b'"taskId":"2052287938007814145"}', b'"taskId":2052287938007814145}'))
    assert read.task_id == "2052287938007814145"


def test_an_error_message_is_cut() -> None:
    error = wire.read_callback(v2(status="FAILED", errorMessage="x" * 2 * TEXT_LIMIT)).error
    assert error is not None
    assert error.message == "x" * TEXT_LIMIT


# ---------------------------------------------------------------- answers of the task endpoints

SUBMITTED: JsonObject = {
    "taskId": TASK,
    "status": "RUNNING",
    "errorCode": "",
    "errorMessage": "",
    "results": None,
    "clientId": "f828b9af25161bc066ef152db7b29ccc",
    "promptTips": '{"result": true, "error": null, "outputs_to_execute": ["4"], "node_errors": {}}',
}
REFUSED: JsonObject = {
    **SUBMITTED,
    "taskId": "",
    "status": "",
    "errorCode": "1007",
    "errorMessage": "failed to parse request body",
    "clientId": "",
    "promptTips": "",
}
EXTRA: JsonObject = {"clientId": SUBMITTED["clientId"], "promptTips": SUBMITTED["promptTips"]}

TASK_OBJECTS: dict[str, tuple[object, tuple[TaskReport | None, str, str]]] = {
    "accepted": (SUBMITTED, (outcome(status="RUNNING", extra=EXTRA), "", "")),
    "accepted and queued": ({"taskId": TASK, "status": "QUEUED"}, (outcome(status="QUEUED"), "", "")),
    "accepted, just created": ({"taskId": TASK, "status": "create"}, (outcome(status="CREATE"), "", "")),
    "accepted, finished already": (
        {**SUBMITTED, "status": "SUCCESS", "results": [V2_ITEM]},
        (succeeded(PNG, extra=EXTRA), "", ""),
    ),
    "accepted, zero is no error": (
        {"taskId": TASK, "status": "RUNNING", "errorCode": "0"},
        (outcome(status="RUNNING"), "", ""),
    ),
    "accepted, id without a status": ({"taskId": TASK}, (outcome(), "", "")),
    "failed": (
        {"taskId": TASK, "status": "FAILED", "errorCode": "1000", "errorMessage": "unknown error", "results": None},
        (failed("1000", "UNKNOWN_ERROR", "unknown error"), "1000", "unknown error"),
    ),
    "query of an unknown task": (
        {"taskId": TASK, "status": "", "errorCode": "1004", "errorMessage": "not found | 不存在"},
        (outcome(known=False), "1004", "not found | 不存在"),
    ),
    "refused": (REFUSED, (None, "1007", "failed to parse request body")),
    "refused with nulls": ({**REFUSED, "taskId": None, "status": None}, (None, "1007", "failed to parse request body")),
    "refused before dispatch": ({"code": 412, "msg": "TOKEN_INVALID"}, (None, "412", "TOKEN_INVALID")),
    "refused, code as a number": ({"taskId": "", "errorCode": 421, "errorMessage": "full"}, (None, "421", "full")),
    "refused by words alone": ({"message": "Queue limit reached"}, (None, "busy", "Queue limit reached")),
    "refused by words in the other field": ({"errorMessage": "queue limit"}, (None, "busy", "queue limit")),
    "refused like an upload": (
        {"code": 401, "message": "ApiKey verification failed: bad", "data": None},
        (None, "401", "ApiKey verification failed: bad"),
    ),
    "refused with a status": (
        {"taskId": "", "status": "FAILED", "errorCode": "1007", "errorMessage": "no"},
        (failed("1007", "INVALID_PARAMETERS", "no", task_id=None), "1007", "no"),
    ),
}


@pytest.mark.parametrize(("answer", "expected"), TASK_OBJECTS.values(), ids=TASK_OBJECTS.keys())
def test_every_answer_of_a_task_endpoint_is_understood(
    answer: object, expected: tuple[TaskReport | None, str, str]
) -> None:
    assert wire.read_task_object(as_bytes(answer)) == expected


@pytest.mark.parametrize(
    "answer",
    [
        {},
        [],
        "RUNNING",
        None,
        {"taskId": "", "status": ""},
        {"status": "PAUSED"},
        {"code": 0, "msg": "success", "data": {"taskId": TASK}},
        {"errorCode": "0"},
        {"message": "hello"},
    ],
    ids=repr,
)
def test_an_answer_with_neither_task_nor_code_is_unreadable(answer: object) -> None:
    with pytest.raises(Unreadable):
        wire.read_task_object(as_bytes(answer))


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"code": 0, "msg": "success", "data": {"a": 1}}, Envelope(code="0", message="success", data={"a": 1})),
        ({"code": 0, "msg": "", "data": None, "errorMessages": None}, Envelope(code="0", message="", data=None)),
        ({"code": "0", "data": "RUNNING"}, Envelope(code="0", message="", data="RUNNING")),
        (
            {"code": 1, "msg": "webhook event not exists"},
            Envelope(code="1", message="webhook event not exists", data=None),
        ),
        ({"code": 401, "message": "no", "data": None}, Envelope(code="401", message="no", data=None)),
        ({"code": -5, "msg": 7}, Envelope(code="-5", message="", data=None)),
    ],
    ids=["success", "empty message", "code as a text", "refused", "like an upload", "odd types"],
)
def test_an_envelope_is_its_code_message_and_data(answer: object, expected: Envelope) -> None:
    assert wire.read_envelope(as_bytes(answer)) == expected


def test_junk_is_no_code() -> None:
    """Least of all is it a zero, which would be a success."""
    codes: list[Json] = [None, True, False, 0.0, 805.5, "", [], {}, [0]]
    for code in codes:
        with pytest.raises(Unreadable):
            wire.read_envelope(as_bytes({"code": code, "msg": "success", "data": None}))
        with pytest.raises(Unreadable):
            wire.read_callback(as_bytes({"taskId": TASK, "eventData": {"code": code, "msg": "success", "data": []}}))


# ---------------------------------------------------------------- webhook details

EVENT_DATA: JsonObject = {
    "code": 0,
    "msg": "success",
    "data": [{"fileUrl": URL, "fileType": "png", "taskCostTime": 78}],
}
DETAIL: JsonObject = {
    "id": WEBHOOK,
    "userApiKey": "******************",
    "taskId": TASK,
    "webhookUrl": "https://your-webhook-url",
    "eventData": as_bytes(EVENT_DATA).decode(),
    "callbackStatus": "FAILED",
    "callbackResponse": 'I/O error on POST request for "https://your-webhook-url"',
    "retryCount": 3,
    "createTime": "2025-03-25T16:05:07",
    "updateTime": "2025-03-25T16:08:10",
}
TOLD = TaskReport(
    status="SUCCESS", end=End.SUCCEEDED, results=[Result(url=URL, type="png")], usage={"taskCostTime": "78"}
)
READ = WebhookDetail(
    id=WEBHOOK,
    task_id=TASK,
    url="https://your-webhook-url",
    status="FAILED",
    response='I/O error on POST request for "https://your-webhook-url"',
    retry_count=3,
    report=TOLD,
)
change = msgspec.structs.replace

DETAILS: dict[str, tuple[JsonObject, WebhookDetail]] = {
    "documented": (DETAIL, READ),
    "not sent yet": (
        {**DETAIL, "callbackStatus": None, "callbackResponse": None, "retryCount": 0, "eventData": None},
        change(READ, status=None, response="", retry_count=0, report=None),
    ),
    "status in small letters": ({**DETAIL, "callbackStatus": "success"}, change(READ, status="SUCCESS")),
    "eventData is an object": ({**DETAIL, "eventData": EVENT_DATA}, READ),
    "eventData is a v2 object": (
        {**DETAIL, "eventData": {"taskId": TASK, "status": "SUCCESS", "results": [V2_ITEM]}},
        change(READ, report=succeeded(PNG)),
    ),
    "eventData is empty": ({**DETAIL, "eventData": ""}, change(READ, report=None)),
    "eventData is an empty object": ({**DETAIL, "eventData": "{}"}, change(READ, report=None)),
    "eventData is junk": ({**DETAIL, "eventData": "{oops"}, change(READ, report=None)),
    "eventData is a list": ({**DETAIL, "eventData": [1]}, change(READ, report=None)),
    "eventData nests too deeply": ({**DETAIL, "eventData": "[" * 100_000}, change(READ, report=None)),
    "retryCount is a text": ({**DETAIL, "retryCount": "3"}, change(READ, retry_count=0)),
    "retryCount is a truth": ({**DETAIL, "retryCount": True}, change(READ, retry_count=0)),
    "ids are numbers": ({**DETAIL, "id": int(WEBHOOK), "taskId": int(TASK)}, READ),
    "only the id": (
        {"id": WEBHOOK},
        WebhookDetail(id=WEBHOOK, task_id=None, url="", status=None, response="", retry_count=0, report=None),
    ),
    "a long response is cut": ({**DETAIL, "callbackResponse": "x" * 9000}, change(READ, response="x" * TEXT_LIMIT)),
}


@pytest.mark.parametrize(("data", "expected"), DETAILS.values(), ids=DETAILS.keys())
def test_every_webhook_detail_is_understood(data: JsonObject, expected: WebhookDetail) -> None:
    assert wire.read_webhook_detail(wire.read_json(as_bytes(data))) == expected


@pytest.mark.parametrize("data", [None, [], "", 7, {}, {"id": None}, {"id": 1.5}, {"id": ""}], ids=repr)
def test_a_webhook_detail_without_an_id_is_unreadable(data: Json) -> None:
    with pytest.raises(Unreadable):
        wire.read_webhook_detail(data)


# ---------------------------------------------------------------- ids and codes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1904163390028185602", "1904163390028185602"),
        (" 1904163390028185602\n", "1904163390028185602"),
        (1904163390028185602, "1904163390028185602"),
        (2**53 + 1, "9007199254740993"),
        (2**64 - 1, "18446744073709551615"),
        (1, "1"),
        ("x" * ID_LIMIT, "x" * ID_LIMIT),
    ],
    ids=["text", "text with space around", "integer", "above 2**53", "the largest", "the smallest", "the longest"],
)
def test_an_id_is_a_text_or_an_integer(value: Json, expected: str) -> None:
    assert wire.read_id(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        *[True, False, None, 0, -1, 2**64, 10**30, [], ["1"], {}, {"id": "1"}],
        *["", "   ", "1\x002", "1\n2", "1\u202e2", "x" * (ID_LIMIT + 1)],
    ],
    ids=ascii,
)
def test_these_are_no_ids(value: Json) -> None:
    assert wire.read_id(value) is None


@pytest.mark.parametrize("value", [1.0, 1904163390028185602.0, 0.5, -1.0, 1e18], ids=repr)
def test_a_float_id_is_no_id(value: float) -> None:
    """Its last digits are gone, so it is the id of another task."""
    assert wire.read_id(value) is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *[
            (None, ""),
            ("", ""),
            ("0", ""),
            (0, ""),
            (" 0 ", ""),
            (False, ""),
            (True, ""),
            (1.5, ""),
            ([], ""),
            ({}, ""),
        ],
        (1501, "1501"),
        ("1501", "1501"),
        (" 1501 ", "1501"),
        (-1, "-1"),
        ("9" * 100, "9" * ID_LIMIT),
    ],
    ids=repr,
)
def test_a_code_is_a_text_and_zero_is_none(value: Json, expected: str) -> None:
    assert wire.read_code(value) == expected


# ---------------------------------------------------------------- hostile bytes

ENTRANCES: tuple[Callable[[bytes], object], ...] = (wire.read_callback, wire.read_task_object, wire.read_envelope)
DEEP = 100_000

HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "only space": b" \t\r\n ",
    "no JSON": SENTINEL.encode(),
    "arrays without end": b"[" * DEEP,
    "arrays that close": b"[" * DEEP + b"]" * DEEP,
    "objects without end": b'{"eventData":' * DEEP,
    "objects that close": b'{"eventData":' * DEEP + b"{}" + b"}" * DEEP,
    "a byte order mark": b'\xef\xbb\xbf{"status":"SUCCESS"}',
    "UTF-16": '{"status":"SUCCESS"}'.encode("utf-16"),
    "Latin-1": '{"status":"réussi"}'.encode("latin-1"),
    "a cut character": b'{"status":"SUCCESS","a":"\xe6\x9c"}',
    "an overlong character": b'{"status":"SUCCESS","a":"\xc0\x80"}',
    "a high surrogate in UTF-8": b'{"status":"SUCCESS","a":"\xed\xa0\x80"}',
    "a low surrogate in UTF-8": b'{"status":"SUCCESS","a":"\xed\xb0\x80"}',
    "a lone high surrogate": b'{"status":"SUCCESS","a":"\\ud800"}',
    "a lone low surrogate": b'{"status":"SUCCESS","a":"\\udc00"}',
    "surrogates the wrong way round": b'{"status":"SUCCESS","a":"\\udc00\\ud800"}',
    "a surrogate as a key": b'{"status":"SUCCESS","\\ud800":1}',
    "a raw NUL": b'{"status":"SUCCESS\x00"}',
    "an integer of 5,000 digits": b'{"status":"SUCCESS","a":' + b"7" * 5000 + b"}",
    "a negative one": b'{"status":"SUCCESS","a":-' + b"7" * 5000 + b"}",
    "a number beyond doubles": b'{"status":"SUCCESS","a":1e400}',
    "not a number": b'{"status":"SUCCESS","a":NaN}',
    "infinity": b'{"status":"SUCCESS","a":-Infinity}',
    "a leading zero": b'{"status":"SUCCESS","a":01}',
    "something after the end": b'{"status":"SUCCESS"}x',
    "two documents": b'{"status":"SUCCESS"}{"status":"SUCCESS"}',
    "a comment": b'/* */{"status":"SUCCESS"}',
    "single quotes": b"{'status':'SUCCESS'}",
    "a trailing comma": b'{"status":"SUCCESS",}',
    "a form": b"status=SUCCESS&taskId=1",
    **{f"a whole {word}": word.encode() for word in ("null", "true", "1", "1.5", '"SUCCESS"', "[]", '[{"status":1}]')},
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_are_refused_in_one_way_and_never_quoted(body: bytes) -> None:
    for read in ENTRANCES:
        with pytest.raises(Unreadable) as refusal:
            read(body)
        assert SENTINEL not in str(refusal.value)


HOSTILE_EVENT_DATA: dict[str, Json] = {
    "an empty text": "",
    "space": "  ",
    "no JSON": SENTINEL,
    "arrays without end": "[" * DEEP,
    "objects without end": '{"a":' * DEEP,
    "texts in texts": json.dumps(json.dumps(json.dumps({"status": "SUCCESS"}))),
    "a lone high surrogate": '{"status":"SUCCESS","a":"\\ud800"}',
    "a lone low surrogate": '{"status":"SUCCESS","a":"\\udc00"}',
    "a raw NUL": '{"status":"SUC\x00CESS',
    "5,000 digits": '{"status":"SUCCESS","a":' + "7" * 5000 + "}",
    "a number beyond doubles": '{"status":"SUCCESS","a":1e400}',
    "a list": "[]",
    "a list itself": [],
    "a number": 7,
    "a truth": True,
    "a text in a text": '"SUCCESS"',
    "an empty object": {},
    "a null inside": "null",
    "neither status nor code": {"taskId": TASK, "results": []},
    "a status of the wrong type": {"status": 1},
    "an empty status": {"status": ""},
}


@pytest.mark.parametrize("inner", HOSTILE_EVENT_DATA.values(), ids=HOSTILE_EVENT_DATA.keys())
def test_hostile_event_data_is_refused_in_one_way_and_never_quoted(inner: Json) -> None:
    with pytest.raises(Unreadable) as refusal:
        wire.read_callback(as_bytes({"event": "TASK_END", "taskId": TASK, "eventData": inner}))
    assert SENTINEL not in str(refusal.value)


def test_nul_is_taken_out_of_texts_and_names() -> None:
    read = wire.read_callback(b'{"taskId":"1\\u0000","status":"SUC\\u0000CESS","na\\u0000me":["a\\u0000b"]}')
    assert read == TaskReport(task_id="1", status="SUCCESS", end=End.SUCCEEDED, extra={"name": ["ab"]})


def test_nul_behind_two_escapes_is_taken_out_too() -> None:
    read = wire.read_callback(v1({"status": "SUCCESS", "a": "x\x00y"}))
    assert read.extra == {"a": "xy"}


def test_the_last_of_two_equal_keys_counts() -> None:
    assert wire.read_callback(b'{"status":"SUCCESS","status":"FAILED"}').end is End.FAILED


def test_a_number_over_64_bits_is_kept_as_a_text() -> None:
    read = wire.read_callback(b'{"status":"SUCCESS","a":%d,"b":%d,"c":%d}' % (2**64, -(2**63) - 1, 2**64 - 1))
    assert read.extra == {"a": str(2**64), "b": str(-(2**63) - 1), "c": 2**64 - 1}


@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_what_nests_deeper_than_anybody_needs_is_dropped_and_the_rest_kept(brackets: tuple[str, str]) -> None:
    before, after = brackets
    for depth in (DEPTH - 2, DEPTH + 50):
        nested = before * depth + "1" + after * depth
        read = wire.read_callback(f'{{"status":"SUCCESS","deep":{nested},"kept":1}}'.encode())
        assert read.extra["kept"] == 1
        shallow = depth < DEPTH
        assert ("1" in as_bytes(read.extra["deep"]).decode()) is shallow


JUNK: list[Json] = [None, True, False, 0, -1, 1.5, 2**64, "", "x", "\x00", [], [[]], [None, 1, "x"], {}, {"a": [1]}]
WHOLE: JsonObject = {
    "taskId": TASK,
    "status": "FAILED",
    "errorCode": "1501",
    "errorMessage": "no",
    "results": [V2_ITEM],
    "failedReason": REASON,
    "usage": CAPTURED_USAGE,
}


@pytest.mark.parametrize("field", sorted(WHOLE.keys() - {"status"}))
def test_a_field_of_the_wrong_type_costs_that_field_alone(field: str) -> None:
    sound = wire.read_callback(as_bytes(WHOLE))
    for junk in JUNK:
        read = wire.read_callback(as_bytes({**WHOLE, field: junk}))
        assert read.end is End.FAILED, junk
        assert read.error is not None, junk
        assert field == "errorCode" or read.error.code == "1501", junk
        assert field == "results" or read.results == sound.results, junk
        assert field == "usage" or read.usage == sound.usage, junk
        assert field == "taskId" or read.task_id == TASK, junk


@pytest.mark.parametrize("field", ["url", "outputType", "nodeId", "text"])
def test_a_result_with_a_field_of_the_wrong_type_is_still_a_result(field: str) -> None:
    for junk in JUNK:
        (read,) = wire.read_callback(v2(status="SUCCESS", results=[{**V2_ITEM, field: junk}])).results
        assert field == "url" or read.url == URL, junk
        assert field == "outputType" or read.type == "png", junk
        assert field == "nodeId" or read.node_id == "9", junk


def test_a_status_of_the_wrong_type_never_makes_a_success() -> None:
    for junk in JUNK:
        assert wire.read_callback(as_bytes({**WHOLE, "status": junk})).end in (End.FAILED, None), junk


# ---------------------------------------------------------------- properties

ALPHABET = 'ab0\x00\ud800\udbff\udc00\udfff\u202e\ufeff"\\/ é未\U0001f600'
KEYS = st.sampled_from(
    [
        *["event", "eventData", "taskId", "status", "code", "msg", "message", "data", "errorCode", "errorMessage"],
        *["results", "failedReason", "exception_message", "usage", "taskCostTime", "url", "outputType", "text"],
        *["nodeId", "fileUrl", "fileType", "id", "retryCount", "callbackStatus", "callbackResponse", "webhookUrl"],
        *["na\x00me", "\ud800"],
    ]
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**70), max_value=2**70),
    st.floats(),
    st.text(alphabet=ALPHABET, max_size=8),
    st.sampled_from(["SUCCESS", "FAILED", "cancel", "RUNNING", "1501", "queue limit", 0, 804, 805, 807, 813, 1004]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=5,
)
OBJECTS = st.dictionaries(KEYS, VALUES, max_size=5)
EVENTS = st.fixed_dictionaries(
    {"eventData": VALUES | OBJECTS | OBJECTS.map(json.dumps)}, optional={"taskId": VALUES, "extra": VALUES}
)


def texts_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for name, item in value.items() for text in (*texts_of(name), *texts_of(item))]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    return []


def check_storable(outcome: TaskReport) -> None:
    """It can be written as JSON and as SQLite text, and comes back as it was."""
    encoded = as_bytes(outcome)
    built = msgspec.to_builtins(outcome)
    assert msgspec.json.decode(encoded) == built
    texts = texts_of(built)
    assert not any("\x00" in text for text in texts)
    database = sqlite3.connect(":memory:")
    try:
        stored = database.execute("select ?, ?", (encoded.decode(), "".join(texts))).fetchone()
    finally:
        database.close()
    assert stored == (encoded.decode(), "".join(texts))
    assert outcome.task_id is None or (0 < len(outcome.task_id) <= ID_LIMIT and outcome.task_id.isprintable())
    assert outcome.error is None or len(outcome.error.message) <= TEXT_LIMIT


def read_and_check(body: bytes) -> None:
    for entrance in ENTRANCES:
        try:
            found = entrance(body)
        except Unreadable:
            continue
        told = found[0] if isinstance(found, tuple) else found
        if isinstance(told, TaskReport):
            check_storable(told)


@MODEST
@given(st.binary(max_size=200))
@example(b"[" * DEEP)
@example(b'{"eventData":"\\ud800"}')
def test_any_bytes_are_an_outcome_or_unreadable(body: bytes) -> None:
    read_and_check(body)


@MODEST
@given(st.integers(min_value=0, max_value=len(CAPTURE) - 1), st.binary(max_size=4), st.integers(0, 4))
def test_any_damage_to_a_real_callback_is_an_outcome_or_unreadable(at: int, put: bytes, cut: int) -> None:
    read_and_check(CAPTURE[:at] + put + CAPTURE[at + cut :])


@MODEST
@given(EVENTS | OBJECTS)
@example({"eventData": {"status": "FAILED", "errorMessage": "a\x00b", "na\x00me": ["\x00"]}})
@example({"status": "SUCCESS", "results": [{"url": "\x00"}], "usage": {"taskCostTime": "1\x00"}})
def test_any_json_is_an_outcome_or_unreadable(payload: object) -> None:
    """json.dumps writes what msgspec would refuse to: lone surrogates, NaN, Infinity."""
    read_and_check(json.dumps(payload).encode())


@MODEST
@given(OBJECTS)
@example({"id": "1", "eventData": {"status": "SUCCESS", "a": "\x00"}})
def test_any_json_is_a_webhook_detail_or_unreadable(data: object) -> None:
    try:
        detail = wire.read_webhook_detail(wire.read_json(json.dumps(data).encode()))
    except Unreadable:
        return
    if detail.report is not None:
        check_storable(detail.report)
    assert "\x00" not in detail.id + detail.url + detail.response + (detail.status or "")


def test_the_tasks_a_task_was_made_of_are_kept_with_what_they_cost() -> None:
    body = msgspec.json.encode(
        {
            "taskId": "1",
            "eventData": {
                "taskId": "1",
                "status": "SUCCESS",
                "usage": {"consumeCoins": "7", "taskCostTime": 32},
                "taskUsageList": [
                    {"taskId": 1, "taskStatus": "SUCCESS", "usage": {"consumeCoins": "7"}},
                    {"taskId": 2, "taskStatus": "SUCCESS", "usage": {"thirdPartyConsumeMoney": 0.14}},
                    {"taskId": None},
                    "junk",
                ],
            },
        }
    )
    assert wire.read_callback(body).usage == {
        "consumeCoins": "7",
        "taskCostTime": "32",
        "children": [{"task_id": "2", "status": "SUCCESS", "thirdPartyConsumeMoney": "0.14"}],
    }


# ---------------------------------------------------------------- what the door reads of a callback

USUAL = {
    "a capture": CAPTURE,
    "a V1 callback": v1({"code": 0, "msg": "success", "data": [V1_ITEM, V1_ITEM]}),
    "a failed V2 task": v2(status="FAILED", errorCode="1000", errorMessage="no", results=None, failedReason={}),
    "a cancelled one": v2(status="CANCEL"),
}
WORDS = ("SUCCESS", "success", "FAILED", "CANCEL", "RUNNING", "0", "1", "804", "805", "1004", "{}", "[]", "null")
CONTAINERS: list[Json] = [[], {}, [None], [{}], [V2_ITEM], [{**V2_ITEM, "more": 1}], {"exception_message": "no"}]
TEXTS: list[Json] = [*WORDS, "", " ", TASK, "\uff11", "1\x00", "SUCCESS\x00", "9" * 65, "x" * 65]
ODD: list[Json] = [None, True, 0, 1, -1, 2**63, 2**64, 0.5, 1e308, *TEXTS, *CONTAINERS]
FIELDS = ("taskId", "event", "eventData", "status", "code", "msg", "data", "errorCode", "errorMessage", "results")
FURTHER = ("failedReason", "usage", "clientId", "promptTips", "parentTaskId", "taskUsageList", "more", "status\x00")
documents = st.dictionaries(st.sampled_from(FIELDS + FURTHER), st.sampled_from(ODD), max_size=6)


def found(read: Callable[[bytes], Hint | TaskReport], body: bytes) -> tuple[object, ...]:
    try:
        said = read(body)
    except Unreadable as problem:
        return (str(problem),)
    return (said.task_id, said.end)


@st.composite
def altered(draw: st.DrawFn) -> bytes:
    """A usual callback of which fields, or bytes, are others."""
    body = draw(st.sampled_from(sorted(USUAL.values())))
    inner = msgspec.json.decode(body)["eventData"]
    inner = (msgspec.json.decode(inner) if isinstance(inner, str) else inner) | draw(documents)
    text = draw(st.booleans())
    whole = {"taskId": TASK, "event": "TASK_END", "eventData": as_bytes(inner).decode() if text else inner}
    body = draw(st.sampled_from([body, as_bytes(whole), as_bytes(whole | draw(documents))]))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(body)))
        body = (
            body[:at]
            + draw(st.sampled_from([b"", b"\\ud800", b"\\u0000", b"\xff", b"1e400", b'"', b"[", b"}"]))
            + body[at:]
        )
    return body


@pytest.mark.parametrize("body", USUAL.values(), ids=USUAL.keys())
def test_what_is_usual_is_not_read_a_second_time(body: bytes) -> None:
    assert hints.usual(body) == Hint(*found(wire.read_callback, body))  # type: ignore[arg-type]


@pytest.mark.parametrize("body", [*(body for body, _ in CALLBACKS.values()), *HOSTILE.values()])
def test_the_door_finds_what_the_whole_reading_finds(body: bytes) -> None:
    assert found(read_hint, body) == found(wire.read_callback, body)


@pytest.mark.parametrize("inner", HOSTILE_EVENT_DATA.values(), ids=HOSTILE_EVENT_DATA.keys())
def test_the_door_finds_in_hostile_event_data_what_the_whole_reading_finds(inner: Json) -> None:
    body = as_bytes({"event": "TASK_END", "taskId": TASK, "eventData": inner})
    assert found(read_hint, body) == found(wire.read_callback, body)


@settings(deadline=None, max_examples=400, derandomize=True)
@given(st.one_of(altered(), st.binary(max_size=200), documents.map(as_bytes)))
def test_the_door_finds_in_any_bytes_what_the_whole_reading_finds(body: bytes) -> None:
    assert found(read_hint, body) == found(wire.read_callback, body)
