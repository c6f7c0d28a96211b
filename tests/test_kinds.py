"""Every kind of task is submitted in its own form, and its answer is read in the provider's own envelope."""

from pathlib import Path

import httpx
import msgspec
import pytest
from house import API_KEY, TLS, House, open_house
from model_judge import judge_of

from receiver.cli.outcome import problems_of
from receiver.model.errors import Refused
from receiver.model.records import Api, Json, JsonObject, Kind
from receiver.orders.reading import FORMS, read_order
from receiver.runninghub.catalogue import example, models
from receiver.runninghub.client import RunningHub, open_http
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.requests import submit_request
from receiver.simulator import Fault
from receiver.simulator.workflows import PICTURE_APP, TEXT_TO_IMAGE

pytestmark = pytest.mark.story

NODES: JsonObject = {"nodeInfoList": [{"nodeId": "6", "fieldName": "text", "fieldValue": "a lighthouse"}]}
ID = "1904136902449209346"
URL = "http://receiver.test/callbacks/x"

REQUESTS = [
    (Kind.MODEL, Api.V2, "a/b", {"prompt": "x"}, "/openapi/v2/a/b", {"prompt": "x", "webhookUrl": URL}),
    (Kind.WORKFLOW, Api.V2, ID, {}, f"/openapi/v2/run/workflow/{ID}", {"nodeInfoList": [], "webhookUrl": URL}),
    (Kind.APP, Api.V2, ID, NODES, f"/openapi/v2/run/ai-app/{ID}", {**NODES, "webhookUrl": URL}),
    (Kind.WORKFLOW, Api.V1, ID, NODES, "/task/openapi/create", {"workflowId": ID, **NODES, "webhookUrl": URL}),
    (Kind.APP, Api.V1, ID, NODES, "/task/openapi/ai-app/run", {"webappId": ID, **NODES, "webhookUrl": URL}),
    (
        Kind.QUICK,
        Api.V1,
        ID,
        {"quickCreateCode": "002", **NODES},
        "/task/openapi/quick-ai-app/run",
        {"webappId": ID, "quickCreateCode": "002", **NODES, "webhookUrl": URL},
    ),
]


@pytest.mark.parametrize(("kind", "api", "target", "body", "path", "sent"), REQUESTS)
def test_a_task_is_submitted_in_the_form_of_its_kind(
    kind: Kind, api: Api, target: str, body: JsonObject, path: str, sent: JsonObject
) -> None:
    request = submit_request(kind, api, target, body, URL)
    assert (request.path, request.body) == (path, sent)
    assert request.v1 == (api is Api.V1)
    assert "webhookUrl" not in submit_request(kind, api, target, body, None).body


def test_every_kind_has_a_request_in_every_form_it_knows() -> None:
    assert {(row[0], row[1]) for row in REQUESTS} == {(kind, api) for kind, forms in FORMS.items() for api in forms}


async def submitted(answer: object, *, v1: bool = True) -> tuple[str, httpx.Request]:
    """What a submission comes to when the provider answers so, and the request that it saw."""
    seen: list[httpx.Request] = []

    def provider(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else msgspec.json.encode(answer))

    async with open_http(httpx.MockTransport(provider), TLS) as http:
        hub = RunningHub(http, "http://provider.test", API_KEY, read_wait=0.0)
        kind, api = (Kind.APP, Api.V1) if v1 else (Kind.MODEL, Api.V2)
        submission = await hub.submit(submit_request(kind, api, ID, NODES, URL))
        return submission.content.task_id, seen[0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectError("no"), "NOT_SENT (not_sent): no connection to provider.test:81 (ConnectError)"),
        (httpx.ReadTimeout("no"), "UNANSWERED (unanswered): no answer from provider.test:81 (ReadTimeout)"),
    ],
)
async def test_a_provider_that_says_nothing_is_named(error: Exception, said: str) -> None:
    def provider(_: httpx.Request) -> httpx.Response:
        raise error

    async with open_http(httpx.MockTransport(provider), TLS) as http:
        hub = RunningHub(http, "http://user:secret@provider.test:81", API_KEY, attempts=1)
        with pytest.raises(ProviderError) as met:
            await hub.query("1")
    assert str(met.value) == said


async def test_a_v1_submission_carries_the_key_in_its_body_and_gets_its_id_from_the_data() -> None:
    created = {
        "code": 0,
        "msg": "success",
        "data": {
            "netWssUrl": None,
            "taskId": "1910246754753896450",
            "clientId": "e825290b08ca2015b8f62f0bbdb5f5f6",
            "taskStatus": "QUEUED",
            "promptTips": '{"result": true, "error": null, "outputs_to_execute": ["9"], "node_errors": {"3": "x"}}',
        },
    }
    task_id, request = await submitted(created)
    assert task_id == "1910246754753896450"
    assert msgspec.json.decode(request.content)["apiKey"] == API_KEY
    assert request.headers["authorization"] == f"Bearer {API_KEY}"


async def test_a_v1_task_id_that_is_a_number_is_as_good_as_a_text() -> None:
    task_id, _ = await submitted({"code": 0, "msg": "", "data": {"taskId": 1910246754753896450}})
    assert task_id == "1910246754753896450"


async def test_a_v2_submission_keeps_the_key_out_of_its_body() -> None:
    _, request = await submitted({"taskId": ID, "status": "RUNNING", "errorCode": ""}, v1=False)
    assert "apiKey" not in msgspec.json.decode(request.content)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"code": 421, "msg": "TASK_QUEUE_MAXED", "data": None}, "421"),
        ({"code": 901, "msg": "WEBAPP_NOT_EXISTS", "data": None}, "901"),
        ({"code": "803", "msg": "APIKEY_INVALID_NODE_INFO", "data": None}, "803"),
        ({"code": 0, "msg": "success", "data": None}, "unreadable"),
        ({"code": 0, "msg": "success", "data": {"taskId": ""}}, "unreadable"),
        ({"msg": "success"}, "unreadable"),
        (b"<html>", "unreadable"),
    ],
)
async def test_a_v1_refusal_is_told_by_its_code(answer: object, code: str) -> None:
    with pytest.raises(ProviderError) as refusal:
        await submitted(answer)
    assert refusal.value.code == code


NODE: JsonObject = {"nodeId": "6", "fieldName": "text", "fieldValue": "a harbour"}
QUICK_FIELDS = ("nodeName", "fieldType", "description")

BAD: list[tuple[dict[str, object], str]] = [
    ({"kind": "workflow", "target": "abc"}, "target"),
    ({"kind": "workflow", "target": 1904136902449209346}, "target"),
    ({"kind": "app", "target": ID, "input": {"webappId": "1"}}, "input.webappId"),
    ({"kind": "app", "target": ID, "input": {"apiKey": "1"}}, "input.apiKey"),
    ({"kind": "app", "target": ID, "input": {"nodeInfoList": {}}}, "input.nodeInfoList"),
    ({"kind": "app", "target": ID, "input": {"nodeInfoList": [1]}}, "input.nodeInfoList[0]"),
    ({"kind": "app", "target": ID, "input": {"nodeInfoList": [{"nodeId": "1"}]}}, "input.nodeInfoList[0].fieldName"),
    ({"kind": "app", "target": ID, "input": {"instanceTyp": "plus"}}, "input.instanceTyp"),
    ({"kind": "app", "target": ID, "input": {"instanceType": "huge"}}, "input.instanceType"),
    ({"kind": "app", "target": ID, "input": {"accessPassword": 7}}, "input.accessPassword"),
    ({"kind": "workflow", "target": ID, "input": {"retainSeconds": 9}}, "input.retainSeconds"),
    ({"kind": "workflow", "target": ID, "input": {"retainSeconds": 181}}, "input.retainSeconds"),
    ({"kind": "workflow", "target": ID, "input": {"addMetadata": "yes"}}, "input.addMetadata"),
    ({"kind": "workflow", "target": ID, "input": {"usePersonalQueue": "yes"}}, "input.usePersonalQueue"),
    ({"kind": "workflow", "target": ID, "input": {"workflow": [1]}}, "input.workflow"),
    ({"kind": "workflow", "target": ID, "input": {"workflow": "@graph.json"}}, "input.workflow"),
    ({"kind": "workflow", "target": ID, "input": {"workflow": "{}"}}, "input.workflow"),
    ({"kind": "workflow", "target": ID, "input": {"workflow": "[" * 100_000}}, "input.workflow"),
    (
        {"kind": "workflow", "target": ID, "input": {"workflow": {"1": {}}, "nodeInfoList": [NODE]}},
        "input.nodeInfoList",
    ),
    ({"kind": "quick", "target": ID}, "input.quickCreateCode"),
    ({"kind": "quick", "target": ID, "input": {"quickCreateCode": 2}}, "input.quickCreateCode"),
    (
        {"kind": "quick", "target": ID, "input": {"quickCreateCode": "002", "nodeInfoList": [NODE]}},
        "input.nodeInfoList[0].nodeName",
    ),
    ({"kind": "quick", "api": "v2", "target": ID, "input": {"quickCreateCode": "1"}}, "api"),
    ({"kind": "model", "api": "v1", "target": "a/b"}, "api"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("order", "path"), BAD)
async def test_a_bad_order_of_any_kind_is_refused_with_its_path(
    shared_house: House, order: dict[str, object], path: str
) -> None:
    answer = await shared_house.api.post("/tasks", json=order)
    assert answer.status_code == 422
    assert path in [problem["path"] for problem in answer.json()["error"]["details"]]
    await shared_house.advance(10)
    assert shared_house.simulator.requests == []


@pytest.mark.asyncio(loop_scope="module")
async def test_everything_that_is_wrong_with_a_workflows_order_is_told_at_once_with_what_was_meant(
    shared_house: House,
) -> None:
    body = {"instanceTyp": "plus", "instanceType": "Plus", "retainSeconds": 200, "nodeInfoList": [{"nodeId": "1"}]}
    answer = await shared_house.api.post("/tasks", json={"kind": "workflow", "target": ID, "input": body})
    told = {each["path"]: each["message"] for each in answer.json()["error"]["details"]}
    assert set(told) == {
        *("input.instanceTyp", "input.instanceType", "input.retainSeconds"),
        *("input.nodeInfoList[0].fieldName", "input.nodeInfoList[0].fieldValue"),
    }
    assert "did you mean instanceType" in told["input.instanceTyp"]
    assert "one of default, plus, ultra" in told["input.instanceType"]
    assert "10 to 180, got 200; the nearest is 180" in told["input.retainSeconds"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("workflow", {"usePersonalQueue": "true", "addMetadata": False, "retainSeconds": 10, "accessPassword": "x"}),
        ("app", {"usePersonalQueue": False, "instanceType": "ultra", "nodeInfoList": [NODE]}),
        ("quick", {"quickCreateCode": "002", "nodeInfoList": [{**NODE, **dict.fromkeys(QUICK_FIELDS, "x")}]}),
    ],
)
def test_everything_that_the_pages_of_a_kind_name_may_be_ordered(kind: str, body: JsonObject) -> None:
    assert read_order({"kind": kind, "target": ID, "input": body}, "t", None).task.input == body


@pytest.mark.parametrize("kind", ["workflow", "app", "quick"])
def test_unchecked_anything_passes_for_every_kind(kind: str) -> None:
    body: JsonObject = {"ofTomorrow": 1, "instanceType": "huge", "nodeInfoList": {"6": "x"}}
    order: JsonObject = {"kind": kind, "target": ID, "input": body}
    assert read_order({**order, "validate": False}, "t", None).task.input == body
    with pytest.raises(Refused):
        read_order(order, "t", None)


async def test_a_whole_workflow_may_be_an_object_and_is_the_same_order_as_its_text(house: House) -> None:
    graph = {"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}
    text = msgspec.json.encode(graph).decode()
    answers = [
        await house.api.post(
            "/tasks",
            json={"kind": "workflow", "target": ID, "input": {"workflow": given}},
            headers={"Idempotency-Key": "k"},
        )
        for given in (graph, text)
    ]
    assert [answer.status_code for answer in answers] == [202, 200]
    assert answers[0].json()["input"] == {"workflow": text}
    await house.settle()
    assert house.simulator.count("run_workflow") == 1


# ---------------------------------------------------------------- what is on no page


@pytest.mark.parametrize("kind", ["workflow", "app"])
async def test_fields_that_are_on_no_page_are_sent_as_they_are_and_told(house: House, kind: str) -> None:
    seen = {"nodeInfoList": [NODE], "randomSeed": True, "retainSeconds": 0, "usePersonalQueue": False}
    plain = await house.api.post("/tasks", json={"kind": kind, "target": ID, "input": seen})
    assert (plain.status_code, plain.json()["note"], plain.json()["input"]) == (202, None, seen)
    newer = {**seen, "ofTomorrow": {"a": [1]}, "clientName": "x"}
    told = await house.api.post("/tasks", json={"kind": kind, "target": ID, "input": newer})
    assert (told.status_code, told.json()["input"]) == (202, newer)
    assert "ofTomorrow, clientName" in told.json()["note"]


@pytest.mark.parametrize("given", [False, 0.5, "0", -1, 9])
def test_a_machine_is_not_kept_or_kept_for_a_time_that_the_page_allows(given: Json) -> None:
    with pytest.raises(Refused):
        read_order({"kind": "workflow", "target": ID, "input": {"retainSeconds": given}}, "t", None)


# ---------------------------------------------------------------- whole workflows in other forms

GRAPH: JsonObject = {"9": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}, "is_changed": [1]}}
TEXT = msgspec.json.encode(GRAPH).decode()
EDITORS: JsonObject = {"last_node_id": 9, "nodes": [{"id": 9, "type": "SaveImage"}], "links": [], "version": 0.4}
WRAPPED: dict[str, Json] = {
    "a BOM": f"\ufeff{TEXT}",
    "ComfyUI's prompt": {"prompt": GRAPH, "client_id": "c", "extra_data": {"extra_pnginfo": {"workflow": EDITORS}}},
    "RunningHub's answer": {"code": 0, "msg": "success", "data": {"prompt": TEXT}},
    "a text of a text": msgspec.json.encode(TEXT).decode(),
    "what a picture holds": {"workflow": EDITORS, "prompt": f"\ufeff{TEXT}"},
    "data alone, as text": msgspec.json.encode({"data": GRAPH}).decode(),
}


def sent_graph(input: JsonObject) -> Json:
    return read_order({"kind": "workflow", "target": ID, "input": input}, "t", None).task.input["workflow"]


@pytest.mark.parametrize("how", WRAPPED)
def test_a_whole_workflow_is_taken_out_of_what_it_is_wrapped_in(how: str) -> None:
    given = WRAPPED[how]
    assert sent_graph({"workflow": given}) == TEXT
    if isinstance(given, dict) and "workflow" not in given:
        order = read_order({"kind": "workflow", "target": ID, "input": {**given, "instanceType": "plus"}}, "t", None)
        assert (order.task.input, order.note) == ({"workflow": TEXT, "instanceType": "plus"}, None)


def test_a_whole_workflow_may_be_the_input_itself() -> None:
    assert sent_graph({**GRAPH, "instanceType": "plus"}) == TEXT


def graph_problem(input: JsonObject) -> str:
    with pytest.raises(Refused) as refused:
        sent_graph(input)
    return dict(problems_of(refused.value))["input.workflow"]


@pytest.mark.parametrize(
    "input",
    [
        {"workflow": EDITORS},
        {"workflow": msgspec.json.encode(EDITORS).decode()},
        {"workflow": {"data": {"workflow": EDITORS}}},
        {"prompt": EDITORS},
        EDITORS,
    ],
)
def test_the_editors_form_of_a_workflow_is_told_with_what_to_export(input: JsonObject) -> None:
    assert "Export (API)" in graph_problem(input)


def test_a_workflow_that_cannot_be_read_is_told_with_the_reason_and_the_place() -> None:
    assert "NaN is no number; put a number or null there (byte 77)" in graph_problem({"workflow": TEXT[:-5] + "NaN]}}"})
    assert "object of nodes" in graph_problem({"workflow": {"prompt": "a cat"}})
    assert "nested too deeply" in graph_problem({"workflow": "[" * 100_000})


async def test_an_order_with_a_bom_is_read_and_one_with_nan_is_told_where_it_stands(house: House) -> None:
    body = msgspec.json.encode({"kind": "workflow", "target": ID, "input": {"workflow": GRAPH}})
    assert (await house.api.post("/tasks", content=b"\xef\xbb\xbf" + body)).status_code == 202
    told = await house.api.post("/tasks", content=body.replace(b"[1]", b"[-Infinity]"))
    assert (told.status_code, told.json()["error"]["code"]) == (400, "not_json")
    assert "Infinity is no number" in told.json()["error"]["message"]


SERVED = [
    ("workflow", "v2", TEXT_TO_IMAGE.id, {}),
    ("workflow", "v1", TEXT_TO_IMAGE.id, {}),
    ("app", "v2", PICTURE_APP.id, {}),
    ("app", "v1", PICTURE_APP.id, {}),
    ("quick", "v1", PICTURE_APP.id, {"quickCreateCode": "002", "nodeInfoList": []}),
]


async def order(house: House, kind: str, api: str, target: str, body: JsonObject) -> str:
    answer = await house.api.post("/tasks", json={"kind": kind, "api": api, "target": target, "input": body})
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["id"]
    return task_id


@pytest.mark.parametrize(("kind", "api", "target", "body"), SERVED)
async def test_a_task_of_every_kind_is_submitted_called_back_confirmed_and_acted_on(
    house: House, kind: str, api: str, target: str, body: JsonObject
) -> None:
    task_id = await order(house, kind, api, target, body)
    await house.advance(60)
    task = await house.task(task_id)
    assert task.event is not None, task.error
    assert (task.state, task.event.source, task.event.confirmed) == ("succeeded", "callback", True)
    assert task.results
    assert house.effects_of(task_id) == ["on-success"]
    sent = house.simulator.callbacks[0].document
    assert isinstance(sent["eventData"], str if api == "v1" else dict)


@pytest.mark.parametrize(("kind", "api", "target", "body"), SERVED)
async def test_a_task_of_any_kind_whose_callback_was_lost_is_found_and_resent(
    house: House, kind: str, api: str, target: str, body: JsonObject
) -> None:
    house.simulator.plan_next(Fault.LOST_CALLBACK)
    task_id = await order(house, kind, api, target, body)
    await house.advance(300)
    task = await house.task(task_id)
    assert (task.state, task.callback.miss, task.callback.cause) == ("succeeded", "late", "unreachable")


@pytest.mark.parametrize("api", ["v1", "v2"])
async def test_a_workflow_that_fails_says_which_node_did(house: House, api: str) -> None:
    house.simulator.plan_next(Fault.FAILED)
    task_id = await order(house, "workflow", api, TEXT_TO_IMAGE.id, {})
    await house.advance(60)
    task = await house.task(task_id)
    assert task.state == "failed"
    assert task.error is not None
    assert task.error.message
    assert house.effects_of(task_id) == ["on-failure"]


async def test_the_outputs_tell_what_the_query_has_forgotten(house: House) -> None:
    house.simulator.plan_next(Fault.NEVER_SENT)
    house.simulator.outage("query", "code", code="1004")
    task_id = await order(house, "workflow", "v1", TEXT_TO_IMAGE.id, {})
    await house.advance(300)
    task = await house.task(task_id)
    assert task.event is not None
    assert (task.state, task.event.source) == ("succeeded", "query")
    assert "outputs" in [check.kind for check in task.checks]
    assert task.results


@pytest.mark.slow
@pytest.mark.parametrize("full", [False, True], ids=["what is required", "every parameter"])
async def test_every_documented_model_submits_calls_back_and_ends(tmp_path: Path, full: bool) -> None:
    """The simulator judges every input by the facts as well, with code of its own."""
    listed = [model for model in models() if model.listed]
    assert len(listed) == 225
    judge = judge_of(msgspec.to_builtins(model) for model in models())
    async with open_house(tmp_path, environment={"RUNNINGHUB_MAX_IN_FLIGHT": "300"}, judge=judge) as house:
        for model in listed:
            await order(house, "model", "v2", model.endpoint, example(model, full=full))
        await house.advance(30)
        ended = (await house.api.get("/tasks", params={"limit": "500"})).json()["items"]
        assert [task["error"] for task in ended if task["state"] != "succeeded"] == []
        assert len(ended) == len({task["target"] for task in ended}) == 225
        assert all(task["callback"]["delivered_at"] for task in ended)
        made = {model.output: model for model in listed}
        for output, model in made.items():
            (task,) = [task for task in ended if task["target"] == model.endpoint]
            (result,) = (await house.task(task["id"])).results
            assert (result.text is not None) == (output in ("text", "json")), output
