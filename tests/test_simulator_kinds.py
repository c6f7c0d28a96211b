"""The simulator runs workflows, AI apps and quick creations as the provider does, in both of its dialects."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from model_judge import judge_of
from provider import EVENT_KEYS, HOOK, KEY, SUBMIT_KEYS, Provider

from receiver.simulator import App, AppNode, Fault, Workflow
from receiver.simulator.tasks import output_type_of
from receiver.simulator.workflows import ANIMATED, LOCKED_APP, PICTURE_APP, TEXT_TO_IMAGE, VIDEO_APP

pytestmark = pytest.mark.story

Document = dict[str, Any]

OUTPUT_KEYS = [
    "fileUrl",
    "fileType",
    "taskCostTime",
    "nodeId",
    "thirdPartyConsumeMoney",
    "consumeMoney",
    "consumeCoins",
]
NODES = [{"nodeId": "6", "fieldName": "text", "fieldValue": "a harbour"}]
APP_NODES = [{"nodeId": "6", "fieldName": "text", "fieldValue": "a harbour", "nodeName": "Prompt"}]
QUICK_NODES = [
    {
        "nodeId": "6",
        "nodeName": "CLIPTextEncode",
        "fieldName": "text",
        "fieldType": "STRING",
        "fieldValue": "a harbour",
        "description": "what to paint",
    }
]
WORKFLOW_PATH = f"/openapi/v2/run/workflow/{TEXT_TO_IMAGE.id}"
APP_PATH = f"/openapi/v2/run/ai-app/{PICTURE_APP.id}"


async def post(provider: Provider, path: str, /, **body: object) -> Document:
    """A V2 request: the key is in the header."""
    response = await provider.http.post(path, json=body, headers=KEY)
    assert response.status_code == 200
    document: Document = response.json()
    return document


async def create(provider: Provider, **body: object) -> Document:
    return await provider.v1("create", **{"workflowId": TEXT_TO_IMAGE.id, "webhookUrl": HOOK, **body})


async def run_v1(provider: Provider, kind: str, **body: object) -> Document:
    if kind == "workflow":
        return await create(provider, **body)
    if kind == "app":
        return await provider.v1("ai-app/run", webappId=PICTURE_APP.id, nodeInfoList=APP_NODES, webhookUrl=HOOK, **body)
    quick = {"webappId": PICTURE_APP.id, "quickCreateCode": "002", "nodeInfoList": QUICK_NODES}
    return await provider.v1("quick-ai-app/run", webhookUrl=HOOK, **quick, **body)


async def created(provider: Provider, kind: str = "workflow", **body: object) -> str:
    answer = await run_v1(provider, kind, **body)
    assert answer["code"] == 0, answer
    task_id: str = answer["data"]["taskId"]
    return task_id


async def ended(provider: Provider, *faults: Fault, kind: str = "workflow", **options: Any) -> str:
    provider.sim.plan_next(*faults, **options)
    task_id = await created(provider, kind)
    await provider.pass_time(5)
    return task_id


@pytest.fixture
def provider() -> Provider:
    return Provider()


KINDS = pytest.mark.parametrize("kind", ["workflow", "app", "quick"])


# Starting


@KINDS
async def test_a_v1_start_answers_in_the_envelope(provider: Provider, kind: str) -> None:
    answer = await run_v1(provider, kind)
    assert list(answer) == ["code", "msg", "data"]
    assert (answer["code"], answer["msg"]) == (0, "success")
    data = answer["data"]
    assert list(data) == ["netWssUrl", "taskId", "clientId", "taskStatus", "promptTips"]
    assert isinstance(data["taskId"], str)
    assert len(data["taskId"]) == 19
    assert data["taskStatus"] in ("QUEUED", "RUNNING")
    assert json.loads(data["promptTips"]) == {
        "result": True,
        "error": None,
        "outputs_to_execute": ["9"],
        "node_errors": {},
    }
    task = provider.sim.tasks[data["taskId"]]
    assert (task.order.kind, task.order.webhook_url) == (kind, HOOK)
    assert "apiKey" not in task.order.params


async def test_the_progress_url_is_there_only_while_a_task_runs(provider: Provider) -> None:
    seen = set()
    for _ in range(8):
        data = (await create(provider))["data"]
        url = data["netWssUrl"]
        assert (url is None) == (data["taskStatus"] == "QUEUED")
        assert url is None or url.startswith("wss://simulator.test/ws/c_instance?c_host=")
        seen.add(data["taskStatus"])
    assert seen == {"QUEUED", "RUNNING"}


@pytest.mark.parametrize(("path", "nodes"), [(WORKFLOW_PATH, NODES), (WORKFLOW_PATH, []), (APP_PATH, APP_NODES)])
async def test_a_v2_start_answers_with_the_bare_task_object(provider: Provider, path: str, nodes: object) -> None:
    answer = await post(provider, path, nodeInfoList=nodes, usePersonalQueue="false", webhookUrl=HOOK)
    assert list(answer) == SUBMIT_KEYS
    assert (answer["errorCode"], answer["errorMessage"], answer["results"]) == ("", "", None)
    assert answer["taskId"] in provider.sim.tasks


async def test_an_app_is_named_by_text_or_by_number(provider: Provider) -> None:
    for app_id in (PICTURE_APP.id, int(PICTURE_APP.id)):
        answer = await provider.v1("ai-app/run", webappId=app_id, nodeInfoList=APP_NODES)
        assert answer["code"] == 0


@pytest.mark.parametrize("spoken", [True, False, "true", "false"])
async def test_the_personal_queue_is_a_boolean_or_the_word_for_one(provider: Provider, spoken: object) -> None:
    assert (await create(provider, usePersonalQueue=spoken))["code"] == 0


async def test_every_option_of_an_advanced_start_is_taken(provider: Provider) -> None:
    answer = await create(
        provider, nodeInfoList=NODES, instanceType="ultra", addMetadata=False, retainSeconds=180, usePersonalQueue=True
    )
    assert answer["code"] == 0


async def test_a_whole_graph_replaces_the_workflow_s_own_and_any_id_will_do(provider: Provider) -> None:
    graph = {"1": {"inputs": {"text": "hello"}, "class_type": "SaveText"}}
    task_id = await created(provider, workflowId="1", workflow=json.dumps(graph))
    assert provider.sim.tasks[task_id].order.graph == graph
    answer = await post(provider, "/openapi/v2/run/workflow/1", workflow=json.dumps(graph))
    assert answer["taskId"]


async def test_the_same_order_twice_is_two_tasks(provider: Provider) -> None:
    assert await created(provider) != await created(provider)
    assert len(provider.sim.tasks) == 2


async def test_seeds_are_drawn_anew_unless_the_order_sets_them(provider: Provider) -> None:
    saved = TEXT_TO_IMAGE.graph["3"]["inputs"]["seed"]
    seed = [{"nodeId": "3", "fieldName": "seed", "fieldValue": 7}]
    ids = [await created(provider), await created(provider), await created(provider, nodeInfoList=seed)]
    graphs = [provider.sim.tasks[task_id].order.graph or {} for task_id in ids]
    drawn, again, given = [graph["3"]["inputs"]["seed"] for graph in graphs]
    assert len({drawn, again, saved}) == 3
    assert given == 7


async def test_node_values_end_up_in_the_graph_that_runs(provider: Provider) -> None:
    task_id = await created(provider, nodeInfoList=NODES)
    assert (provider.sim.tasks[task_id].order.graph or {})["6"]["inputs"]["text"] == "a harbour"
    assert TEXT_TO_IMAGE.graph["6"]["inputs"]["text"] != "a harbour"


async def test_a_graph_can_be_looked_at(provider: Provider) -> None:
    answer = await provider.http.post("/api/openapi/getJsonApiFormat", json={"apiKey": "k", "workflowId": ANIMATED.id})
    document = answer.json()
    assert (document["code"], document["msg"]) == (0, "SUCCESS")
    assert json.loads(document["data"]["prompt"]) == ANIMATED.graph


# Refusals


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"workflowId": "999"}, 380),
        ({"workflowId": ""}, 301),
        ({"workflowId": ANIMATED.id}, 301),
        ({"workflowId": ANIMATED.id, "accessPassword": "wrong"}, 301),
        ({"workflowId": ANIMATED.id, "accessPassword": "open sesame"}, 0),
        ({"nodeInfoList": [{"nodeId": "99", "fieldName": "text", "fieldValue": "x"}]}, 803),
        ({"nodeInfoList": [{"nodeId": "6", "fieldName": "words", "fieldValue": "x"}]}, 803),
        ({"nodeInfoList": [{"nodeId": "6", "fieldName": "text"}]}, 803),
        ({"nodeInfoList": [7]}, 803),
        ({"nodeInfoList": "6.text=x"}, 803),
        ({"nodeInfoList": NODES, "workflow": "{}"}, 803),
        ({"workflow": "not json"}, 433),
        ({"workflow": "{}"}, 433),
        ({"workflow": {"1": {}}}, 433),
        ({"workflow": '{"1": {"class_type": "SaveImage"}}'}, 433),
        ({"workflow": '{"1": {"class_type": "KSampler", "inputs": {}}}'}, 433),
        ({"workflow": '{"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}'}, 433),
        ({"instanceType": "huge"}, 301),
        ({"retainSeconds": 9}, 301),
        ({"retainSeconds": 181}, 301),
        ({"retainSeconds": "60"}, 301),
        ({"retainSeconds": True}, 301),
        ({"usePersonalQueue": "maybe"}, 301),
        ({"addMetadata": 1}, 301),
        ({"webhookUrl": 5}, 301),
    ],
)
async def test_a_creation_that_does_not_fit_is_refused_by_code(provider: Provider, body: Document, code: int) -> None:
    answer = await create(provider, **body)
    assert answer["code"] == code
    assert code == 0 or (answer["data"] is None and answer["msg"])
    assert len(provider.sim.tasks) == (code == 0)


async def test_a_graph_that_cannot_run_is_told_what_is_wrong_with_it(provider: Provider) -> None:
    answer = await create(provider, workflow='{"1": {"class_type": "SaveImage", "inputs": {"images": ["2", 0]}}}')
    assert "node '1', input 'images'" in answer["msg"].replace("#", "")


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("run/workflow/999", {"nodeInfoList": []}, "380"),
        (f"run/workflow/{TEXT_TO_IMAGE.id}", {}, "1007"),
        (f"run/workflow/{TEXT_TO_IMAGE.id}", {"nodeInfoList": [{"nodeId": "99"}]}, "1101"),
        (f"run/workflow/{TEXT_TO_IMAGE.id}", {"workflow": "{}"}, "433"),
        ("run/ai-app/999", {"nodeInfoList": []}, "901"),
        (f"run/ai-app/{PICTURE_APP.id}", {}, "1007"),
        (
            f"run/ai-app/{PICTURE_APP.id}",
            {"nodeInfoList": [{"nodeId": "7", "fieldName": "text", "fieldValue": "not offered"}]},
            "1101",
        ),
        (f"run/ai-app/{PICTURE_APP.id}", {"nodeInfoList": APP_NODES, "instanceType": "huge"}, "1007"),
    ],
)
async def test_a_v2_start_is_refused_with_a_text_for_a_code(
    provider: Provider, path: str, body: Document, code: str
) -> None:
    answer = await post(provider, f"/openapi/v2/{path}", **body)
    assert list(answer) == SUBMIT_KEYS
    assert (answer["taskId"], answer["status"], answer["errorCode"]) == ("", "", code)
    assert answer["errorMessage"]


@pytest.mark.parametrize("path", [WORKFLOW_PATH, APP_PATH])
async def test_v2_starts_ask_for_the_key_first(path: str) -> None:
    provider = Provider(api_key="another")
    response = await provider.http.post(path, content=b"junk")
    assert response.json() == {"code": 412, "msg": "TOKEN_INVALID"}
    assert (await post(provider, path))["errorCode"] == "1002"
    response = await Provider().http.post(path, content=b"junk", headers=KEY)
    assert response.json()["errorCode"] == "1007"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/task/openapi/create", {"workflowId": "1"}),
        ("/task/openapi/ai-app/run", {"webappId": "1", "nodeInfoList": []}),
        ("/task/openapi/quick-ai-app/run", {"webappId": "1", "quickCreateCode": "1", "nodeInfoList": []}),
        ("/task/openapi/status", {"taskId": "1"}),
        ("/task/openapi/outputs", {"taskId": "1"}),
        ("/api/openapi/getJsonApiFormat", {"workflowId": "1"}),
        ("/api/openapi/getLoraUploadUrl", {"loraName": "x", "md5Hex": "0" * 32}),
    ],
)
async def test_v1_wants_the_key_in_the_body_and_another_site_s_key_is_no_key(path: str, body: Document) -> None:
    provider = Provider(api_key="right")
    for given, code in ((body, 301), ({**body, "apiKey": "wrong"}, 802)):
        answer = (await provider.http.post(path, json=given, headers={"Authorization": "Bearer right"})).json()
        assert (answer["code"], answer["data"]) == (code, None)


async def test_an_unknown_app_does_not_exist(provider: Provider) -> None:
    answer = await provider.v1("ai-app/run", webappId="999", nodeInfoList=[])
    assert answer == {"code": 901, "msg": "WEBAPP_NOT_EXISTS", "data": None}
    assert (await provider.v1("ai-app/run", nodeInfoList=[]))["code"] == 301
    assert (await provider.v1("ai-app/run", webappId=PICTURE_APP.id))["code"] == 301


async def test_a_workflow_that_never_ran_by_hand_does_not_run() -> None:
    provider = Provider(workflows=[Workflow("5", TEXT_TO_IMAGE.graph, run_by_hand=False)])
    assert (await create(provider, workflowId="5"))["code"] == 810
    answer = await provider.http.post("/api/openapi/getJsonApiFormat", json={"apiKey": "k", "workflowId": "5"})
    assert answer.json()["code"] == 810
    assert (await create(provider))["code"] == 380


async def test_a_simulator_knows_the_workflows_and_apps_it_is_given() -> None:
    own = Workflow("77", {"1": {"class_type": "SaveText", "inputs": {"text": "x"}}})
    app = App("78", "Mine", own, (AppNode("1", "text"),))
    provider = Provider(workflows=[own], apps=[app])
    nodes = [{"nodeId": 1, "fieldName": "text", "fieldValue": "y"}]
    assert (await create(provider, workflowId="77", nodeInfoList=nodes))["code"] == 0
    assert (await provider.v1("ai-app/run", webappId=78, nodeInfoList=nodes))["code"] == 0


@pytest.mark.parametrize("missing", ["nodeName", "fieldType", "description", "fieldValue"])
async def test_a_quick_creation_wants_every_key_of_its_nodes(provider: Provider, missing: str) -> None:
    nodes = [{name: value for name, value in QUICK_NODES[0].items() if name != missing}]
    answer = await provider.v1("quick-ai-app/run", webappId=PICTURE_APP.id, quickCreateCode="002", nodeInfoList=nodes)
    assert (answer["code"], answer["msg"]) == (301, f"nodeInfoList.{missing} must not be blank")


async def test_a_quick_creation_wants_the_code_of_its_app(provider: Provider) -> None:
    answer = await provider.v1(
        "quick-ai-app/run", webappId=PICTURE_APP.id, quickCreateCode="003", nodeInfoList=QUICK_NODES
    )
    assert answer["code"] == 301
    answer = await provider.v1("quick-ai-app/run", webappId="9", quickCreateCode="002", nodeInfoList=QUICK_NODES)
    assert answer["code"] == 901


async def test_the_styles_of_a_quick_creation_are_shown_without_a_key() -> None:
    provider = Provider(api_key="secret")
    path = "/api/fast/creation/model/params"
    answer = (await provider.http.post(path, json={"type": 2, "webappId": PICTURE_APP.id})).json()
    assert answer["code"] == 0
    assert [style["modelKey"] for style in answer["data"]] == ["watercolour", "ink"]
    assert {"modelLoar1FileName", "modelLoar2Weight", "modelTrigger", "content"} <= answer["data"][0].keys()
    assert (await provider.http.post(path, json={"type": 9, "webappId": PICTURE_APP.id})).json()["data"] == []
    assert (await provider.http.post(path, json={"type": "2", "webappId": PICTURE_APP.id})).json()["code"] == 301
    assert (await provider.http.post(path, json={"type": 2, "webappId": "9"})).json()["code"] == 901


async def test_an_app_tells_what_it_wants(provider: Provider) -> None:
    path = "/api/webapp/apiCallDemo"
    answer = (await provider.http.get(path, params={"apiKey": "k", "webappId": LOCKED_APP.id})).json()
    data = answer["data"]
    assert list(data) == ["curl", "webappName", "statisticsInfo", "nodeInfoList", "covers", "tags", "accessEncrypted"]
    assert data["accessEncrypted"] is True
    assert set(data["statisticsInfo"].values()) == {"0"}
    assert [(node["nodeId"], node["fieldName"], node["fieldValue"]) for node in data["nodeInfoList"]] == [
        ("39", "image", "example.png"),
        ("52", "prompt", "slowly turning"),
        ("52", "seconds", "5"),
    ]
    assert json.loads(data["nodeInfoList"][2]["fieldData"]) == [["5", "10"]]
    assert (await provider.http.get(path, params={"apiKey": "k", "webappId": "9"})).json()["code"] == 901
    assert (await provider.http.get(path, params={"webappId": "9"})).json()["code"] == 301
    strict = Provider(api_key="right")
    assert (await strict.http.get(path, params={"apiKey": "k", "webappId": "9"})).json()["code"] == 802


async def test_what_an_app_tells_is_what_it_takes(provider: Provider) -> None:
    shown = await provider.http.get("/api/webapp/apiCallDemo", params={"apiKey": "k", "webappId": VIDEO_APP.id})
    answer = await post(
        provider,
        f"/openapi/v2/run/ai-app/{VIDEO_APP.id}",
        nodeInfoList=shown.json()["data"]["nodeInfoList"],
        accessPassword="open sesame",
    )
    assert answer["taskId"]


# States and outputs


@KINDS
async def test_the_state_is_one_bare_word(provider: Provider, kind: str) -> None:
    task_id = await created(provider, kind)
    answer = await provider.v1("status", taskId=task_id)
    assert answer == {"code": 0, "msg": "", "data": provider.sim.tasks[task_id].status.value}
    await provider.pass_time(5)
    assert (await provider.v1("status", taskId=task_id))["data"] == "SUCCESS"


async def test_the_outputs_say_queued_and_running_by_code(provider: Provider) -> None:
    seen = {}
    for _ in range(8):
        task_id = await created(provider)
        answer = await provider.v1("outputs", taskId=task_id)
        seen[answer["code"]] = answer
    assert seen[813] == {"code": 813, "msg": "APIKEY_TASK_IS_QUEUED", "data": None}
    assert seen[804]["msg"] == "APIKEY_TASK_IS_RUNNING"
    assert seen[804]["data"]["netWssUrl"].startswith("wss://")


@KINDS
async def test_the_outputs_of_a_success_are_its_files(provider: Provider, kind: str) -> None:
    answer = await provider.v1("outputs", taskId=await ended(provider, kind=kind))
    assert (answer["code"], answer["msg"]) == (0, "success")
    [row] = answer["data"]
    assert list(row) == OUTPUT_KEYS
    assert (row["fileType"], row["nodeId"], row["thirdPartyConsumeMoney"]) == ("png", "9", None)
    assert isinstance(row["taskCostTime"], str)
    assert int(row["taskCostTime"]) in (4, 5)
    assert row["consumeCoins"] == "1"
    assert (await provider.http.get(row["fileUrl"])).status_code == 200


async def test_the_outputs_of_a_failure_say_why_in_texts(provider: Provider) -> None:
    task_id = await ended(provider, Fault.FAILED, error_code="1015")
    answer = await provider.v1("outputs", taskId=task_id)
    assert (answer["code"], answer["msg"]) == (805, "APIKEY_TASK_STATUS_ERROR")
    reason = answer["data"]["failedReason"]
    assert {type(value) for value in reason.values()} == {str}
    assert (reason["current_inputs"], reason["current_outputs"]) == ("{}", "{}")
    assert (reason["node_id"], reason["node_name"]) == ("9", "SaveImage")
    assert isinstance(json.loads(reason["traceback"]), list)
    assert (await provider.v1("status", taskId=task_id))["data"] == "FAILED"


async def test_the_message_of_a_failed_graph_is_general_and_the_reason_is_not(provider: Provider) -> None:
    answer = await provider.query(await ended(provider, Fault.FAILED, error_code="1015"))
    assert (answer["errorCode"], answer["errorMessage"]) == ("1015", "工作流运行失败")
    assert answer["failedReason"]["exception_message"] == "generation failed | 生成失败"
    assert isinstance(answer["failedReason"]["traceback"], list)


@pytest.mark.parametrize("path", ["status", "outputs"])
@pytest.mark.parametrize(("task_id", "code"), [("0", 301), ("x", 301), ("", 301), ("1904136902449209346", 807)])
async def test_an_id_of_no_task_is_refused(provider: Provider, path: str, task_id: str, code: int) -> None:
    answer = await provider.v1(path, taskId=task_id)
    assert (answer["code"], answer["data"]) == (code, None)
    assert answer["msg"] == {"0": "taskId must be positive", "": "taskId must not be blank"}.get(task_id, answer["msg"])


@KINDS
async def test_a_cancelled_task_is_told_in_three_ways(provider: Provider, kind: str) -> None:
    task_id = await created(provider, kind)
    assert await provider.v1("cancel", taskId=task_id) == {"code": 0, "msg": "success", "data": None}
    assert (await provider.query(task_id))["status"] == "CANCEL"
    assert (await provider.v1("status", taskId=task_id))["data"] == "FAILED"
    answer = await provider.v1("outputs", taskId=task_id)
    assert (answer["code"], answer["data"]) == (805, {"failedReason": None})
    await provider.pass_time(60)
    assert provider.sim.callbacks == []


async def test_a_query_knows_every_kind_and_names_the_nodes(provider: Provider) -> None:
    for kind in ("workflow", "app", "quick"):
        task_id = await ended(provider, kind=kind)
        answer = await provider.query(task_id)
        assert (answer["taskId"], answer["status"], answer["errorCode"]) == (task_id, "SUCCESS", "")
        assert [row["nodeId"] for row in answer["results"]] == ["9"]
        assert answer["usage"]["consumeCoins"] == "1"
        assert isinstance(answer["usage"]["taskCostTime"], str)
        assert answer["parentTaskId"] is None
        [used] = answer["taskUsageList"]
        assert used["taskId"] == int(task_id) > 2**53


async def test_states_and_outputs_know_models_too(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    while (answer := await provider.v1("outputs", taskId=task_id))["code"] != 0:
        assert answer["code"] in (804, 813)
        assert answer["data"] in (None, {"netWssUrl": None})
        await provider.pass_time(1)
    assert answer["data"][0]["taskCostTime"] == "0"
    assert answer["data"][0]["consumeCoins"] is None
    assert answer["data"][0]["thirdPartyConsumeMoney"]


async def test_a_third_party_s_part_is_a_child_task(provider: Provider) -> None:
    body = {"workflowId": ANIMATED.id, "accessPassword": "open sesame"}
    task_id = await created(provider, **body)
    await provider.pass_time(5)
    answer = await provider.query(task_id)
    assert answer["usage"]["thirdPartyConsumeMoney"] == "0.14"
    own, child = answer["taskUsageList"]
    assert (own["taskId"], own["parentTaskId"], own["usage"]["thirdPartyConsumeMoney"]) == (int(task_id), None, None)
    assert (child["parentTaskId"], child["usage"]["thirdPartyConsumeMoney"]) == (int(task_id), "0.14")
    assert own["usage"]["consumeCoins"] == "1"
    assert child["usage"]["consumeCoins"] is None


async def test_a_text_is_told_in_place_by_v2_and_linked_by_v1(provider: Provider) -> None:
    task_id = await created(provider, workflowId=ANIMATED.id, accessPassword="open sesame")
    await provider.pass_time(5)
    video, text = (await provider.query(task_id))["results"]
    assert (video["outputType"], video["text"], video["nodeId"]) == ("mp4", None, "60")
    assert (text["outputType"], text["url"], text["nodeId"]) == ("txt", None, "61")
    _, row = (await provider.v1("outputs", taskId=task_id))["data"]
    assert row["fileType"] == "txt"
    assert (await provider.http.get(row["fileUrl"])).text == text["text"] != ""


def test_a_path_that_ends_in_text_makes_text() -> None:
    assert output_type_of("rhart-text-g-25-pro/video-to-text") == "txt"


# Callbacks


@KINDS
async def test_a_v1_callback_carries_a_json_text(provider: Provider, kind: str) -> None:
    task_id = await ended(provider, kind=kind)
    [sent] = provider.sim.callbacks
    assert list(sent.document) == ["event", "taskId", "eventData"]
    assert (sent.document["event"], sent.document["taskId"]) == ("TASK_END", task_id)
    inner = json.loads(sent.document["eventData"])
    assert (inner["code"], inner["msg"]) == (0, "success")
    [row] = inner["data"]
    assert list(row) == ["fileUrl", "fileType", "taskCostTime", "nodeId"]
    assert isinstance(row["taskCostTime"], int)
    detail = await provider.detail(task_id)
    assert detail["eventData"] == sent.document["eventData"]
    assert detail["callbackStatus"] == "SUCCESS"


async def test_a_v1_failure_is_the_end_of_a_task_too(provider: Provider) -> None:
    await ended(provider, Fault.FAILED)
    [sent] = provider.sim.callbacks
    assert sent.document["event"] == "TASK_END"
    inner = json.loads(sent.document["eventData"])
    assert (inner["code"], inner["msg"]) == (805, "APIKEY_TASK_STATUS_ERROR")
    assert isinstance(inner["data"]["failedReason"]["traceback"], str)


@pytest.mark.parametrize(("path", "nodes"), [(WORKFLOW_PATH, NODES), (APP_PATH, APP_NODES)])
async def test_a_v2_callback_carries_an_object(provider: Provider, path: str, nodes: object) -> None:
    task_id = (await post(provider, path, nodeInfoList=nodes, webhookUrl=HOOK))["taskId"]
    await provider.pass_time(5)
    [sent] = provider.sim.callbacks
    assert list(sent.document) == ["eventData", "event", "taskId"]
    event = sent.document["eventData"]
    assert list(event) == EVENT_KEYS
    assert (event["taskId"], event["status"]) == (task_id, "SUCCESS")
    assert list(event["results"][0]) == ["url", "nodeId", "outputType", "text"]
    assert json.loads((await provider.detail(task_id))["eventData"]) == event


async def test_a_resend_of_a_v1_event_repeats_its_bytes(provider: Provider) -> None:
    task_id = await ended(provider)
    await provider.v1(
        "retryWebhook", webhookId=(await provider.detail(task_id))["id"], webhookUrl="https://us.test/new"
    )
    await provider.sim.tick()
    first, second = provider.sim.callbacks
    assert (first.body, second.url) == (second.body, "https://us.test/new")


async def test_a_cancelled_v1_task_may_be_told_to_send() -> None:
    provider = Provider(callback_on_cancel=True)
    await provider.v1("cancel", taskId=await created(provider))
    await provider.sim.tick()
    inner = json.loads(provider.sim.callbacks[0].document["eventData"])
    assert (inner["code"], inner["data"]) == (805, {"failedReason": None})


# Faults befall every kind


def _inner(provider: Provider) -> Document:
    document: Document = json.loads(provider.sim.callbacks[0].document["eventData"])
    return document


@pytest.mark.parametrize("fault", [Fault.LOST_CALLBACK, Fault.NEVER_SENT])
async def test_a_v1_callback_may_not_come_and_the_detail_knows_the_event(provider: Provider, fault: Fault) -> None:
    task_id = await ended(provider, fault)
    assert provider.sim.callbacks == []
    assert json.loads((await provider.detail(task_id))["eventData"])["code"] == 0


async def test_a_v1_callback_may_come_twice_late_or_to_another_url(provider: Provider) -> None:
    await ended(provider, Fault.DUPLICATE, Fault.LATE, Fault.WRONG_TOKEN, delay=10)
    assert provider.sim.callbacks == []
    await provider.pass_time(10)
    first, second = provider.sim.callbacks
    assert first == second
    assert first.url == "https://us.test/callbacks/Aoken"


async def test_a_v1_callback_may_outrun_its_answer(provider: Provider) -> None:
    provider.sim.plan_next(Fault.BEFORE_ANSWER, answer_says_end=True)
    answer = await create(provider)
    assert answer["data"]["taskStatus"] == "SUCCESS"
    assert len(provider.sim.callbacks) == 1


async def test_a_v1_callback_may_claim_success_for_a_failure(provider: Provider) -> None:
    task_id = await ended(provider, Fault.FALSE_CLAIM)
    assert _inner(provider)["code"] == 0
    assert (await provider.v1("outputs", taskId=task_id))["code"] == 805
    assert json.loads((await provider.detail(task_id))["eventData"])["code"] == 805


async def test_a_v1_callback_may_claim_success_early(provider: Provider) -> None:
    task_id = await ended(provider, Fault.EARLY_CLAIM, seconds=20)
    assert _inner(provider)["code"] == 0
    assert (await provider.v1("outputs", taskId=task_id))["code"] == 804
    assert (await provider.v1("status", taskId=task_id))["data"] == "RUNNING"
    await provider.pass_time(20)
    assert (await provider.v1("outputs", taskId=task_id))["code"] == 0


async def test_a_v1_success_may_come_without_files(provider: Provider) -> None:
    task_id = await ended(provider, Fault.NO_RESULTS, results_after_queries=1)
    assert _inner(provider)["data"] == []
    assert (await provider.v1("outputs", taskId=task_id))["data"] == []
    assert len((await provider.v1("outputs", taskId=task_id))["data"]) == 1


async def test_a_v1_callback_may_name_another_task_or_be_huge(provider: Provider) -> None:
    task_id = await ended(provider, Fault.OTHER_ID, Fault.HUGE_BODY, megabytes=0.25)
    [sent] = provider.sim.callbacks
    assert sent.document["taskId"] != task_id
    assert len(sent.body) > 262144


async def test_a_forgotten_v1_task_is_gone_for_the_outputs_too(provider: Provider) -> None:
    task_id = await ended(provider, Fault.FORGOTTEN, detail_knows=False)
    for path in ("outputs", "status"):
        assert (await provider.v1(path, taskId=task_id))["code"] == 807
    assert (await provider.v1("getWebhookDetail", taskId=task_id))["code"] == 1


async def test_an_expired_link_may_be_replaced_by_asking_for_the_outputs(provider: Provider) -> None:
    task_id = await ended(provider, Fault.EXPIRED_LINK, fresh_after_query=True)
    dead = _inner(provider)["data"][0]["fileUrl"]
    assert (await provider.http.get(dead)).status_code == 404
    url = (await provider.v1("outputs", taskId=task_id))["data"][0]["fileUrl"]
    assert (await provider.http.get(url)).status_code == 200


async def test_chances_befall_workflows_as_well() -> None:
    provider = Provider(junk=1.0)
    await created(provider)
    await provider.pass_time(5)
    with pytest.raises((ValueError, RecursionError)):
        json.loads(provider.sim.callbacks[0].body)


# Limits


async def test_a_full_queue_is_told_in_each_dialect() -> None:
    provider = Provider(max_in_flight=1)
    await created(provider)
    assert await create(provider) == {"code": 421, "msg": "TASK_QUEUE_MAXED", "data": None}
    answer = await post(provider, APP_PATH, nodeInfoList=APP_NODES)
    assert (answer["taskId"], answer["errorCode"], answer["errorMessage"]) == ("", "421", "TASK_QUEUE_MAXED")
    await provider.pass_time(5)
    assert (await create(provider))["code"] == 0


async def test_an_exclusive_key_waits_for_its_own_machine_if_told_to() -> None:
    provider = Provider(max_in_flight=1, api_type="EXCLUSIVE", personal_queue=1)
    first = await created(provider)
    assert (await create(provider))["code"] == 415
    second = await created(provider, usePersonalQueue="true")
    assert (await create(provider, usePersonalQueue=True))["code"] == 814
    await provider.pass_time(4.9)
    assert (await provider.v1("outputs", taskId=second))["code"] == 813
    await provider.pass_time(0.1)
    assert (await provider.v1("status", taskId=first))["data"] == "SUCCESS"
    assert (await provider.v1("status", taskId=second))["data"] == "RUNNING"
    await provider.pass_time(5)
    assert (await provider.v1("status", taskId=second))["data"] == "SUCCESS"
    assert (await provider.v1("outputs", taskId=second))["data"][0]["taskCostTime"] == "5"


async def test_a_waiting_task_can_be_cancelled() -> None:
    provider = Provider(max_in_flight=1, api_type="EXCLUSIVE")
    await created(provider)
    waiting = await created(provider, usePersonalQueue=True)
    assert (await provider.v1("cancel", taskId=waiting))["code"] == 0
    await provider.pass_time(60)
    assert (await provider.query(waiting))["status"] == "CANCEL"
    assert (await create(provider))["code"] == 0


@pytest.mark.parametrize("api_type", ["NORMAL", "EXCLUSIVE"])
async def test_models_are_for_shared_keys_and_the_rest_is_for_all(api_type: str) -> None:
    provider = Provider(api_type=api_type)
    answer = await provider.submit()
    assert (answer["taskId"], answer["errorCode"]) == ("", "1014")
    assert (await create(provider))["code"] == 0


@pytest.mark.parametrize(
    ("route", "start", "shape"),
    [
        ("submit", lambda provider: provider.submit(), {"errorCode": "1003"}),
        ("create", create, {"code": 1003, "data": None}),
    ],
)
async def test_any_error_code_may_be_said_in_the_route_s_own_envelope(
    provider: Provider, route: str, start: Callable[[Provider], Any], shape: Mapping[str, object]
) -> None:
    provider.sim.outage(route, "code", times=1, code="1003")
    answer = await start(provider)
    assert shape.items() <= answer.items()
    assert provider.sim.tasks == {}
    await start(provider)
    assert len(provider.sim.tasks) == 1


# Models that are known


FACTS: list[Document] = [
    {
        "name": "one",
        "endpoint": "/openapi/v2/maker/text-to-video",
        "alt_endpoints": ["/openapi/v2/maker/other"],
        "output": "video",
        "later_params": ["seed"],
        "params": [
            {"name": "prompt", "type": "string", "required": True, "min_length": 2, "max_length": 5},
            {"name": "imageUrls", "type": "array<string>", "media": "image", "max_items": 3, "alias": "1##images"},
            {"name": "resolution", "type": "string", "enum": ["720P"], "enum_codes": ["1"], "ignore_case": True},
            {"name": "duration", "type": "integer", "min": 2, "max": 9},
            {"name": "scale", "type": "number", "min": 0, "max": 1},
            {"name": "audio", "type": "boolean"},
            {"name": "elements", "type": "array<object>"},
        ],
    },
    {"name": "two", "endpoint": "/openapi/v2/maker/describe", "output": "text", "params": []},
]
MODEL = "/openapi/v2/maker/text-to-video"


@pytest.fixture
def strict() -> Provider:
    return Provider(judge=judge_of(FACTS))


@pytest.mark.parametrize(
    "params",
    [
        {"prompt": "a cat"},
        {"prompt": "cat", "resolution": "720p", "duration": 2, "scale": 1, "audio": False, "seed": 5},
        {"prompt": "cat", "resolution": "1", "imageUrls": ["https://x.test/1.png", "data:image/png;base64,AA=="]},
        {"prompt": "cat", "1##images": ["http://x.test/1.png"], "elements": [{}]},
        {"prompt": "cat", "scale": 0.5, "resolution": "", "audio": None},
    ],
)
async def test_parameters_that_fit_the_facts_are_taken(strict: Provider, params: Document) -> None:
    assert (await post(strict, MODEL, **params))["taskId"]


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({}, "prompt must not be blank"),
        ({"prompt": "a"}, "at least 2 characters"),
        ({"prompt": "a lighthouse"}, "at most 5 characters"),
        ({"prompt": "cat", "promt": "x"}, "promt is not a parameter"),
        ({"prompt": 5}, "prompt must be of type string"),
        ({"prompt": "cat", "audio": "true"}, "audio must be of type boolean"),
        ({"prompt": "cat", "duration": "5"}, "duration must be of type integer"),
        ({"prompt": "cat", "duration": True}, "duration must be of type integer"),
        ({"prompt": "cat", "duration": 10}, "duration must be at most 9"),
        ({"prompt": "cat", "scale": -0.1}, "scale must be at least 0"),
        ({"prompt": "cat", "resolution": "8k"}, "resolution must be one of 720P, 1"),
        ({"prompt": "cat", "imageUrls": ["https://x.test"] * 4}, "at most 3 items"),
        ({"prompt": "cat", "imageUrls": ["api/x.png"]}, "imageUrls[0] must be a URL"),
        ({"prompt": "cat", "imageUrls": [7]}, "imageUrls[0] must be of type string"),
        ({"prompt": "cat", "elements": ["x"]}, "elements[0] must be of type object"),
    ],
)
async def test_parameters_that_do_not_fit_are_refused_in_a_sentence(
    strict: Provider, params: Document, said: str
) -> None:
    answer = await post(strict, MODEL, **params)
    assert (answer["taskId"], answer["errorCode"]) == ("", "1007")
    assert said in answer["errorMessage"]
    assert strict.sim.tasks == {}


async def test_a_model_without_facts_is_an_address_that_does_not_exist(strict: Provider) -> None:
    assert (await post(strict, "/openapi/v2/maker/nothing"))["errorCode"] == "1001"
    assert (await post(strict, "/openapi/v2/maker/other", prompt="cat"))["taskId"]


async def test_facts_say_what_a_model_makes(strict: Provider) -> None:
    task_id = (await post(strict, "/openapi/v2/maker/describe"))["taskId"]
    await strict.pass_time(5)
    [result] = (await strict.query(task_id))["results"]
    assert (result["url"], result["outputType"]) == (None, "txt")
    assert result["text"]


async def test_a_model_of_which_no_parameter_is_known_takes_anything(strict: Provider) -> None:
    assert (await post(strict, "/openapi/v2/maker/describe", anything=1))["taskId"]
    assert judge_of([{"endpoint": "/openapi/v2/a/b", "output": "video"}])("a/b", {"anything": 1}) == "mp4"


def test_a_row_that_describes_no_model_is_refused() -> None:
    with pytest.raises(ValueError, match="no facts of a model"):
        judge_of([{}])
