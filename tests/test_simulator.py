"""The simulator keeps the provider's shapes, repeats itself by seed, and each of its faults tells its story."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.simulator import (
    Chances,
    DeliveryAnswer,
    Fault,
    Options,
    Plan,
    Simulator,
    Status,
    asgi_deliver,
    create_app,
    post_callback,
)
from receiver.simulator.files import requested_range
from receiver.simulator.ids import Snowflakes
from receiver.simulator.tasks import output_type_of

pytestmark = pytest.mark.story

START = 1_769_000_000.0
MODEL = "/openapi/v2/rhart-video-v3.1-pro-official/reference-to-video"
HOOK = "https://us.test/callbacks/token"
KEY = {"Authorization": "Bearer key"}

SUBMIT_KEYS = ["taskId", "status", "errorCode", "errorMessage", "results", "clientId", "promptTips"]
QUERY_KEYS = [
    *SUBMIT_KEYS[:4],
    "failedReason",
    "usage",
    "results",
    "clientId",
    "promptTips",
]
EVENT_KEYS = [*SUBMIT_KEYS, "failedReason", "usage", "parentTaskId", "taskUsageList"]
DETAIL_KEYS = [
    "id",
    "userApiKey",
    "taskId",
    "webhookUrl",
    "eventData",
    "callbackStatus",
    "callbackResponse",
    "retryCount",
    "createTime",
    "updateTime",
]


class Clock:
    """A clock that only a test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class House:
    """A simulator, its clock, a client of it, and a receiver whose answers are given beforehand."""

    def __init__(self, **knobs: Any) -> None:
        self.clock = Clock()
        self.answers: list[DeliveryAnswer] = []
        self.headers: list[Mapping[str, str]] = []
        self.sim = Simulator(clock=self.clock, deliver=self.deliver, **knobs)
        self.http = httpx.AsyncClient(transport=self.sim.transport(), base_url="http://simulator.test")

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        self.headers.append(headers)
        return self.answers.pop(0) if self.answers else DeliveryAnswer(200, '{"ok":true}')

    async def submit(self, url: str | None = HOOK, path: str = MODEL) -> dict[str, Any]:
        body = {"prompt": "a cat", **({"webhookUrl": url} if url else {})}
        return _document(await self.http.post(path, json=body, headers=KEY))

    async def submit_and_end(self) -> str:
        task_id: str = (await self.submit())["taskId"]
        await self.pass_time(5)
        return task_id

    async def pass_time(self, seconds: float) -> None:
        self.clock.now += seconds
        await self.sim.tick()

    async def query(self, task_id: object) -> dict[str, Any]:
        return _document(await self.http.post("/openapi/v2/query", json={"taskId": task_id}, headers=KEY))

    async def v1(self, path: str, **body: object) -> dict[str, Any]:
        return _document(await self.http.post(f"/task/openapi/{path}", json={"apiKey": "key", **body}))

    async def detail(self, task_id: str) -> dict[str, Any]:
        answer = await self.v1("getWebhookDetail", taskId=task_id)
        assert answer["code"] == 0
        data: dict[str, Any] = answer["data"]
        return data


def _document(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    document: dict[str, Any] = response.json()
    return document


@pytest.fixture
def house() -> House:
    return House()


REFUSING = DeliveryAnswer(404, "no such token")
UNREACHABLE = DeliveryAnswer(None, "Connection refused")


# Shapes


async def test_an_accepted_submission_has_the_documented_keys(house: House) -> None:
    answer = await house.submit()
    assert list(answer) == SUBMIT_KEYS
    assert answer["status"] in ("QUEUED", "RUNNING")
    assert answer["errorCode"] == answer["errorMessage"] == answer["promptTips"] == ""
    assert answer["results"] is None
    assert len(answer["clientId"]) == 32
    assert int(answer["clientId"], 16) >= 0


async def test_task_ids_are_snowflakes_of_the_clock(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    assert len(task_id) == 19
    assert (int(task_id) >> 22) + 1288834974657 == START * 1000


def test_ids_stay_apart_while_the_clock_stands_still_or_goes_back() -> None:
    clock = Clock()
    snowflakes = Snowflakes(clock, node=5)
    ids = [snowflakes.mint() for _ in range(5000)]
    clock.now -= 60
    ids.append(snowflakes.mint())
    assert sorted(set(ids), key=int) == ids
    assert {int(each) >> 12 & 1023 for each in ids} == {5}


async def test_the_webhook_url_is_no_model_parameter(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    task = house.sim.tasks[task_id]
    assert task.params == {"prompt": "a cat"}
    assert task.webhook_url == HOOK
    assert task.model == "rhart-video-v3.1-pro-official/reference-to-video"


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer  "}, {"Authorization": "key"}]
)
@pytest.mark.parametrize("path", [MODEL, "/openapi/v2/query"])
async def test_a_missing_key_is_refused_before_anything_else(house: House, path: str, headers: dict[str, str]) -> None:
    response = await house.http.post(path, content=b"junk", headers=headers)
    assert _document(response) == {"code": 412, "msg": "TOKEN_INVALID"}


async def test_a_wrong_key_is_refused_in_each_family_s_own_envelope() -> None:
    house = House(api_key="another")
    answer = await house.submit()
    assert list(answer) == SUBMIT_KEYS
    assert (answer["taskId"], answer["status"], answer["errorCode"]) == ("", "", "1002")
    assert (await house.query("123"))["errorCode"] == "1002"
    assert (await house.v1("cancel", taskId="123"))["code"] == 802
    assert house.sim.tasks == {}


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"{", b"[" * 100_000, b"\xff", b'{"webhookUrl": 5}'])
async def test_a_body_that_is_no_object_is_refused(house: House, body: bytes) -> None:
    answer = _document(await house.http.post(MODEL, content=body, headers=KEY))
    assert (answer["taskId"], answer["errorCode"]) == ("", "1007")
    assert house.sim.tasks == {}


@pytest.mark.parametrize("path", ["getWebhookDetail", "retryWebhook", "cancel"])
async def test_v1_wants_the_key_in_the_body(house: House, path: str) -> None:
    response = await house.http.post(f"/task/openapi/{path}", json={"taskId": "1", "webhookId": "1"}, headers=KEY)
    assert _document(response) == {"code": 301, "msg": "apiKey must not be blank", "data": None}
    assert (await house.v1(path))["code"] == 301


async def test_a_query_of_a_success_has_the_documented_keys(house: House) -> None:
    task_id = await house.submit_and_end()
    answer = await house.query(task_id)
    assert list(answer) == QUERY_KEYS
    assert (answer["taskId"], answer["status"], answer["errorCode"]) == (task_id, "SUCCESS", "")
    assert answer["failedReason"] == {}
    assert list(answer["usage"]) == ["consumeMoney", "consumeCoins", "taskCostTime", "thirdPartyConsumeMoney"]
    assert isinstance(answer["usage"]["thirdPartyConsumeMoney"], str)
    [result] = answer["results"]
    assert list(result) == ["url", "nodeId", "outputType", "text"]
    assert (result["outputType"], result["text"]) == ("mp4", None)


@pytest.mark.parametrize(
    ("task_id", "code"), [("2013508786110730241", "1004"), ("0", "1007"), ("x", "1007"), (7, "1007")]
)
async def test_a_query_of_no_task_says_which_kind_of_no(house: House, task_id: object, code: str) -> None:
    answer = await house.query(task_id)
    assert (answer["status"], answer["errorCode"]) == ("", code)


async def test_a_callback_is_the_captured_one_key_by_key(house: House) -> None:
    task_id = await house.submit_and_end()
    [sent] = house.sim.callbacks
    body = sent.document
    assert list(body) == ["eventData", "event", "taskId"]
    assert (body["event"], body["taskId"]) == ("TASK_END", task_id)
    event = body["eventData"]
    assert list(event) == EVENT_KEYS
    assert (event["taskId"], event["status"], event["parentTaskId"]) == (task_id, "SUCCESS", None)
    assert list(event["results"][0]) == ["url", "outputType", "text"]
    [usage] = event["taskUsageList"]
    assert usage["taskId"] == int(task_id)
    assert usage["usage"] == event["usage"]
    assert dict(house.headers[0]) == {"Content-Type": "application/json", "User-Agent": "Java/17.0.9"}
    assert (sent.url, sent.status, sent.task_id, sent.attempt, sent.at) == (HOOK, 200, task_id, 1, START + 5)


async def test_the_detail_is_there_from_the_submission_on(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    row = await house.detail(task_id)
    assert list(row) == DETAIL_KEYS
    assert int(row["id"]) == int(task_id) + 1
    assert row["userApiKey"] == "*" * 18
    assert (row["webhookUrl"], row["eventData"], row["callbackStatus"]) == (HOOK, "", None)
    assert (row["callbackResponse"], row["retryCount"]) == (None, 0)
    assert row["createTime"] == row["updateTime"] == "2026-01-21T20:53:20"


async def test_the_detail_of_a_delivered_callback_keeps_our_answer(house: House) -> None:
    task_id = await house.submit_and_end()
    row = await house.detail(task_id)
    assert (row["callbackStatus"], row["callbackResponse"], row["retryCount"]) == ("SUCCESS", '{"ok":true}', 0)
    assert json.loads(row["eventData"]) == house.sim.callbacks[0].document["eventData"]
    assert row["updateTime"] == "2026-01-21T20:53:25"


async def test_without_a_webhook_url_there_is_no_event(house: House) -> None:
    task_id = (await house.submit(url=None))["taskId"]
    await house.pass_time(5)
    answer = await house.v1("getWebhookDetail", taskId=task_id)
    assert answer == {"code": 1, "msg": "webhook event not exists", "data": None}
    assert house.sim.callbacks == []


# Life of a task


async def test_a_task_waits_runs_and_ends(house: House) -> None:
    seen = set()
    for _ in range(12):
        task_id = (await house.submit())["taskId"]
        first = (await house.query(task_id))["status"]
        await house.pass_time(1)
        second = (await house.query(task_id))["status"]
        await house.pass_time(4)
        seen.add((first, second, (await house.query(task_id))["status"]))
    assert seen == {("QUEUED", "RUNNING", "SUCCESS"), ("RUNNING", "RUNNING", "SUCCESS")}


async def test_a_tick_says_whether_there_was_anything(house: House) -> None:
    assert not await house.sim.tick()
    assert house.sim.next_due() is None
    await house.submit()
    assert not await house.sim.tick()
    due = house.sim.next_due()
    assert due is not None
    assert START < due <= START + 5
    house.clock.now = START + 5
    assert await house.sim.tick()
    assert not await house.sim.tick()
    assert house.sim.next_due() is None


async def test_a_task_can_be_finished_by_hand(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    house.sim.finish(task_id)
    assert house.sim.tasks[task_id].status is Status.SUCCESS
    assert house.sim.callbacks == []
    await house.sim.tick()
    assert len(house.sim.callbacks) == 1
    assert house.sim.next_due() is None


async def test_a_cancelled_task_sends_nothing(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    assert await house.v1("cancel", taskId=task_id) == {"code": 0, "msg": "success", "data": None}
    assert (await house.query(task_id))["status"] == "CANCEL"
    assert house.sim.next_due() is None
    assert (await house.v1("cancel", taskId=task_id))["code"] == 805
    assert (await house.v1("cancel", taskId="123"))["code"] == 807


async def test_a_cancelled_task_may_be_told_to_send() -> None:
    house = House(callback_on_cancel=True)
    task_id = (await house.submit())["taskId"]
    await house.v1("cancel", taskId=task_id)
    await house.sim.tick()
    assert house.sim.callbacks[0].document["eventData"]["status"] == "CANCEL"


@pytest.mark.parametrize("as_number", [False, True])
async def test_too_many_tasks_meet_the_limit_until_one_ends(as_number: bool) -> None:
    house = House(max_in_flight=1, number_421=as_number)
    await house.submit()
    answer = await house.submit()
    assert (answer["taskId"], answer["errorCode"]) == ("", 421 if as_number else "421")
    await house.pass_time(5)
    assert (await house.submit())["taskId"]


async def test_every_request_is_remembered(house: House) -> None:
    task_id = await house.submit_and_end()
    await house.query(task_id)
    await house.detail(task_id)
    assert [each.route for each in house.sim.requests] == ["submit", "query", "detail"]
    assert house.sim.requests[0].document == {"prompt": "a cat", "webhookUrl": HOOK}
    assert (house.sim.requests[1].method, house.sim.requests[1].path) == ("POST", "/openapi/v2/query")
    assert house.sim.requests[1].at == START + 5
    assert (house.sim.count("query"), house.sim.count("files")) == (1, 0)


# Retries and resends


async def test_a_refused_callback_is_tried_again_until_it_is_accepted(house: House) -> None:
    house.answers = [REFUSING, UNREACHABLE]
    task_id = await house.submit_and_end()
    row = await house.detail(task_id)
    assert (row["callbackStatus"], row["callbackResponse"]) == ("FAILED", '404 Not Found: "no such token"')
    assert not await house.sim.tick()
    await house.pass_time(30)
    row = await house.detail(task_id)
    assert row["callbackResponse"] == f'I/O error on POST request for "{HOOK}": Connection refused'
    assert row["retryCount"] == 1
    await house.pass_time(30)
    row = await house.detail(task_id)
    assert (row["callbackStatus"], row["retryCount"]) == ("SUCCESS", 2)
    assert [each.attempt for each in house.sim.callbacks] == [1, 2, 3]
    assert len({each.body for each in house.sim.callbacks}) == 1
    assert house.sim.next_due() is None


async def test_after_the_last_retry_nothing_comes_any_more() -> None:
    house = House(retry_seconds=(1.0, 2.0))
    house.answers = [REFUSING] * 9
    task_id = await house.submit_and_end()
    times = [START + 5]
    while (due := house.sim.next_due()) is not None:
        house.clock.now = due
        await house.sim.tick()
        times.append(due)
    assert [each.at for each in house.sim.callbacks] == times == [START + 5, START + 6, START + 8]
    row = await house.detail(task_id)
    assert (row["callbackStatus"], row["retryCount"]) == ("FAILED", 2)


@pytest.mark.parametrize(("status", "said"), [(200, "SUCCESS"), (204, "SUCCESS"), (302, "FAILED"), (503, "FAILED")])
async def test_any_2xx_is_success_and_nothing_else(house: House, status: int, said: str) -> None:
    house.answers = [DeliveryAnswer(status, "")]
    task_id = await house.submit_and_end()
    assert (await house.detail(task_id))["callbackStatus"] == said


async def test_a_resend_goes_where_it_is_told(house: House) -> None:
    house.sim.plan_next(Fault.LOST_CALLBACK)
    task_id = await house.submit_and_end()
    row = await house.detail(task_id)
    answer = await house.v1("retryWebhook", webhookId=row["id"], webhookUrl="https://us.test/other")
    assert answer == {"code": 0, "msg": "", "data": None}
    assert house.sim.callbacks == []
    await house.sim.tick()
    [sent] = house.sim.callbacks
    assert sent.url == "https://us.test/other"
    assert sent.document["eventData"] == json.loads(row["eventData"])
    assert list(sent.document) == ["eventData", "event", "taskId"]
    row = await house.detail(task_id)
    assert (row["webhookUrl"], row["callbackStatus"], row["retryCount"]) == (HOOK, "SUCCESS", 4)


async def test_a_resend_repeats_the_bytes_and_is_not_retried(house: House) -> None:
    task_id = await house.submit_and_end()
    house.answers = [REFUSING]
    await house.v1("retryWebhook", webhookId=(await house.detail(task_id))["id"])
    await house.sim.tick()
    first, second = house.sim.callbacks
    assert (first.url, first.body) == (second.url, second.body)
    assert house.sim.next_due() is None


async def test_there_is_nothing_to_resend_before_the_end(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    for webhook_id in ((await house.detail(task_id))["id"], "123"):
        answer = await house.v1("retryWebhook", webhookId=webhook_id)
        assert answer == {"code": 1, "msg": "webhook event not exists", "data": None}


# Files


async def test_a_result_can_be_downloaded_whole_and_in_parts() -> None:
    house = House(file_size=150_000)
    url = (await house.query(await house.submit_and_end()))["results"][0]["url"]
    whole = await house.http.get(url)
    assert (whole.status_code, len(whole.content)) == (200, 150_000)
    assert (whole.headers["content-type"], whole.headers["content-length"]) == ("video/mp4", "150000")
    etag = whole.headers["etag"]
    for wanted, part in (("0-9", slice(0, 10)), ("65530-140000", slice(65530, 140001)), ("-5", slice(-5, None))):
        answer = await house.http.get(url, headers={"Range": f"bytes={wanted}", "If-Range": etag})
        assert (answer.status_code, answer.content) == (206, whole.content[part])
        assert answer.headers["content-range"].endswith("/150000")
    beyond = await house.http.get(url, headers={"Range": "bytes=150000-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */150000")
    other = await house.http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, len(other.content)) == (200, 150_000)
    head = await house.http.head(url)
    assert (head.headers["content-length"], head.content) == ("150000", b"")


async def test_a_file_lives_as_long_as_its_link(house: House) -> None:
    task_id = (await house.submit())["taskId"]
    url = house.sim.tasks[task_id].links[0]
    assert (await house.http.get(url)).status_code == 404
    await house.pass_time(5)
    assert (await house.http.get(url)).status_code == 200
    await house.pass_time(86399)
    assert (await house.http.get(url)).status_code == 200
    await house.pass_time(1)
    assert (await house.http.get(url)).status_code == 404


@pytest.mark.parametrize(
    ("model", "extension"),
    [
        ("x/text-to-video", "mp4"),
        ("x/image-to-video", "mp4"),
        ("x/video-to-audio", "mp3"),
        ("x/text-to-image", "png"),
        ("minimax/speech-02-hd", "mp3"),
        ("suno/music", "mp3"),
        ("x/tts-v2", "mp3"),
        ("hunyuan3d/image-to-3d", "glb"),
        ("x/upscale", "png"),
    ],
)
def test_the_extension_follows_from_the_model(model: str, extension: str) -> None:
    assert output_type_of(model) == extension


@pytest.mark.parametrize(
    "header", [None, "", "bytes", "bytes=-", "items=0-1", "bytes=0-1,3-4", "bytes=a-b", "bytes=--1"]
)
def test_a_range_nobody_understands_means_the_whole_file(header: str | None) -> None:
    assert requested_range(header, 100) is None


# Determinism


async def _life(**knobs: Any) -> list[object]:
    house = House(**knobs)
    told: list[object] = [await house.submit() for _ in range(20)]
    await house.pass_time(100)
    urls = [task.links[0] for task in house.sim.tasks.values()]
    told += [each.body for each in house.sim.callbacks]
    return [*told, (await house.http.get(urls[0])).content]


async def test_the_same_seed_tells_the_same_story() -> None:
    chances = Chances(drop=0.3, duplicate=0.3, fail=0.3, junk=0.3, late=0.3)
    first = await _life(seed=7, chances=chances)
    assert first == await _life(seed=7, chances=chances)
    assert first != await _life(seed=8, chances=chances)


async def test_chances_befall_about_as_many_as_they_say() -> None:
    house = House(chances=Chances(fail=0.25, drop=1.0))
    for _ in range(200):
        await house.submit()
    plans = [task.plan for task in house.sim.tasks.values()]
    assert all(plan.has(Fault.LOST_CALLBACK) for plan in plans)
    assert 25 < sum(plan.fails for plan in plans) < 75


async def test_plans_are_used_in_order_and_go_before_chances() -> None:
    house = House(chances=Chances(fail=1.0))
    house.sim.plan_next()
    house.sim.plan_next(Fault.LATE, delay=7)
    for _ in range(3):
        await house.submit()
    plans = [task.plan for task in house.sim.tasks.values()]
    assert plans[0] == Plan()
    assert plans[1] == Plan(frozenset({Fault.LATE}), delay=7)
    assert plans[2].has(Fault.FAILED)


# One story per fault


async def test_a_lost_callback_never_arrives(house: House) -> None:
    house.sim.plan_next(Fault.LOST_CALLBACK)
    task_id = await house.submit_and_end()
    assert house.sim.callbacks == []
    row = await house.detail(task_id)
    assert (row["callbackStatus"], row["retryCount"]) == ("FAILED", 3)
    assert row["callbackResponse"] == f'I/O error on POST request for "{HOOK}": Connection refused'
    assert json.loads(row["eventData"])["status"] == "SUCCESS"
    assert house.sim.next_due() is None


async def test_a_callback_may_never_be_attempted(house: House) -> None:
    house.sim.plan_next(Fault.NEVER_SENT)
    task_id = await house.submit_and_end()
    assert house.sim.callbacks == []
    row = await house.detail(task_id)
    assert (row["callbackStatus"], row["callbackResponse"], row["retryCount"]) == (None, None, 0)
    assert json.loads(row["eventData"])["status"] == "SUCCESS"


async def test_a_duplicate_is_the_same_bytes_twice(house: House) -> None:
    house.sim.plan_next(Fault.DUPLICATE)
    task_id = await house.submit_and_end()
    first, second = house.sim.callbacks
    assert first == second
    assert (await house.detail(task_id))["retryCount"] == 0


async def test_a_late_callback_takes_its_time(house: House) -> None:
    house.sim.plan_next(Fault.LATE, delay=100)
    task_id = await house.submit_and_end()
    assert (await house.query(task_id))["status"] == "SUCCESS"
    await house.pass_time(99)
    assert house.sim.callbacks == []
    await house.pass_time(1)
    assert [each.at for each in house.sim.callbacks] == [START + 105]


@pytest.mark.parametrize("told", [False, True])
async def test_a_callback_may_outrun_the_submit_answer(house: House, told: bool) -> None:
    house.sim.plan_next(Fault.BEFORE_ANSWER, answer_says_end=told)
    answer = await house.submit()
    [sent] = house.sim.callbacks
    assert sent.document["taskId"] == answer["taskId"]
    assert (answer["status"] == "SUCCESS") is told
    assert (answer["results"] is not None) is told
    assert house.sim.next_due() is None


async def test_a_junk_callback_is_no_json() -> None:
    house = House(seed=3)
    for _ in range(30):
        house.sim.plan_next(Fault.JUNK_BODY)
        await house.submit()
    await house.pass_time(5)
    bodies = {each.body for each in house.sim.callbacks}
    assert len(bodies) > 4
    for body in bodies:
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)


async def test_a_wrong_token_differs_in_the_last_segment_only(house: House) -> None:
    house.sim.plan_next(Fault.WRONG_TOKEN)
    await house.submit("https://us.test/callbacks/Abc.def?x=1/2")
    await house.pass_time(5)
    assert house.sim.callbacks[0].url == "https://us.test/callbacks/Bbc.def?x=1/2"


async def test_a_huge_callback_is_huge_and_true(house: House) -> None:
    house.sim.plan_next(Fault.HUGE_BODY, megabytes=0.5)
    task_id = await house.submit_and_end()
    [sent] = house.sim.callbacks
    assert 524288 < len(sent.body) < 530000
    assert sent.document["eventData"]["taskId"] == task_id


async def test_a_failed_task_says_why_and_costs_nothing(house: House) -> None:
    house.sim.plan_next(Fault.FAILED, error_code="1504")
    task_id = await house.submit_and_end()
    answer = await house.query(task_id)
    assert (answer["status"], answer["errorCode"], answer["results"]) == ("FAILED", "1504", None)
    assert answer["errorMessage"] == answer["failedReason"]["exception_message"]
    assert isinstance(answer["failedReason"]["traceback"], list)
    assert [answer["usage"][key] for key in ("consumeMoney", "consumeCoins", "thirdPartyConsumeMoney")] == [None] * 3
    event = house.sim.callbacks[0].document["eventData"]
    assert (event["status"], event["errorCode"]) == ("FAILED", "1504")


async def test_a_success_may_come_without_results(house: House) -> None:
    house.sim.plan_next(Fault.NO_RESULTS)
    house.sim.plan_next(Fault.NO_RESULTS, results_after_queries=2)
    never, later = [(await house.submit())["taskId"] for _ in range(2)]
    await house.pass_time(5)
    assert [each.document["eventData"]["results"] for each in house.sim.callbacks] == [None, None]
    assert [(await house.query(never))["results"] for _ in range(4)] == [None] * 4
    told = [await house.query(later) for _ in range(3)]
    assert {each["status"] for each in told} == {"SUCCESS"}
    assert [each["results"] is None for each in told] == [True, True, False]


async def test_a_false_claim_is_exposed_by_the_query(house: House) -> None:
    house.sim.plan_next(Fault.FALSE_CLAIM)
    task_id = await house.submit_and_end()
    event = house.sim.callbacks[0].document["eventData"]
    assert (event["status"], event["errorCode"]) == ("SUCCESS", "")
    answer = await house.query(task_id)
    assert (answer["status"], answer["errorCode"]) == ("FAILED", "1501")
    assert (await house.http.get(event["results"][0]["url"])).status_code == 404
    assert json.loads((await house.detail(task_id))["eventData"])["status"] == "FAILED"


async def test_an_early_claim_becomes_true_later(house: House) -> None:
    house.sim.plan_next(Fault.EARLY_CLAIM, seconds=20)
    task_id = await house.submit_and_end()
    assert house.sim.callbacks[0].document["eventData"]["status"] == "SUCCESS"
    answer = await house.query(task_id)
    assert (answer["status"], answer["results"]) == ("RUNNING", None)
    await house.pass_time(20)
    assert (await house.query(task_id))["status"] == "SUCCESS"


async def test_a_task_whose_answer_is_lost_exists_all_the_same(house: House) -> None:
    house.sim.plan_next(Fault.ANSWER_LOST)
    with pytest.raises(httpx.RemoteProtocolError):
        await house.submit()
    assert len(house.sim.tasks) == 1
    await house.pass_time(5)
    assert len(house.sim.callbacks) == 1


@pytest.mark.parametrize("detail_knows", [True, False])
async def test_a_forgotten_task_is_known_until_its_end(house: House, detail_knows: bool) -> None:
    house.sim.plan_next(Fault.FORGOTTEN, detail_knows=detail_knows)
    task_id = (await house.submit())["taskId"]
    assert (await house.query(task_id))["errorCode"] == ""
    await house.pass_time(5)
    answer = await house.query(task_id)
    assert (answer["status"], answer["errorCode"]) == ("", "1004")
    detail = await house.v1("getWebhookDetail", taskId=task_id)
    assert detail["code"] == (0 if detail_knows else 1)


@pytest.mark.parametrize("fresh", [True, False])
async def test_an_expired_link_may_be_replaced_by_a_query(house: House, fresh: bool) -> None:
    house.sim.plan_next(Fault.EXPIRED_LINK, fresh_after_query=fresh)
    task_id = await house.submit_and_end()
    dead = house.sim.callbacks[0].document["eventData"]["results"][0]["url"]
    assert (await house.http.get(dead)).status_code == 404
    url = (await house.query(task_id))["results"][0]["url"]
    assert (url != dead) is fresh
    assert (await house.http.get(url)).status_code == (200 if fresh else 404)
    assert (await house.query(task_id))["results"][0]["url"] == url


async def test_a_callback_may_name_another_task(house: House) -> None:
    house.sim.plan_next(Fault.OTHER_ID)
    task_id = await house.submit_and_end()
    [sent] = house.sim.callbacks
    other = sent.document["taskId"]
    assert other not in house.sim.tasks
    assert sent.document["eventData"]["taskId"] == other
    assert (sent.url, sent.task_id) == (HOOK, task_id)


# Outages


@pytest.mark.parametrize("kind", ["429", "500", "502", "503"])
async def test_an_outage_meets_as_many_requests_as_it_is_told(house: House, kind: str) -> None:
    house.sim.outage("submit", kind, times=2)
    for _ in range(2):
        response = await house.http.post(MODEL, json={}, headers=KEY)
        assert response.status_code == int(kind)
        assert response.headers.get("retry-after") == ("1" if kind == "429" else None)
    assert house.sim.tasks == {}
    assert (await house.submit())["taskId"]
    assert house.sim.count("submit") == 3


async def test_an_outage_lasts_until_it_is_healed(house: House) -> None:
    house.sim.outage("*", "junk")
    response = await house.http.post("/openapi/v2/query", json={"taskId": "1"}, headers=KEY)
    assert response.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        response.json()
    house.sim.outage("query", "503")
    assert (await house.http.post("/openapi/v2/query")).status_code == 503
    house.sim.heal("query")
    assert (await house.http.post("/openapi/v2/query")).status_code == 200
    house.sim.heal()
    assert (await house.query("123"))["errorCode"] == "1004"


async def test_a_refused_connection_reaches_nothing_and_a_slow_one_does(house: House) -> None:
    house.sim.outage("submit", "refused", times=1)
    with pytest.raises(httpx.ConnectError):
        await house.submit()
    assert house.sim.tasks == {}
    house.sim.outage("submit", "slow", times=1)
    with pytest.raises(httpx.ReadTimeout):
        await house.submit()
    assert len(house.sim.tasks) == 1


def test_an_outage_that_does_not_exist_is_refused(house: House) -> None:
    with pytest.raises(ValueError, match="no route"):
        house.sim.outage("nowhere", "500")
    with pytest.raises(ValueError, match="fire"):
        house.sim.outage("submit", "fire")


# Delivery


async def test_callbacks_go_into_an_app_without_a_socket() -> None:
    async def take(request: Request) -> Response:
        if request.path_params["token"] == "broken":
            raise RuntimeError("the receiver has a bug")
        return JSONResponse({"got": (await request.json())["taskId"], "agent": request.headers["user-agent"]})

    app = Starlette(routes=[Route("/callbacks/{token}", take, methods=["POST"])])
    clock = Clock()
    sim = Simulator(clock=clock, deliver=asgi_deliver(app), retry_seconds=())
    async with httpx.AsyncClient(transport=sim.transport(), base_url="http://simulator.test") as http:
        for token in ("fine", "broken"):
            await http.post(MODEL, json={"webhookUrl": f"https://us.test/callbacks/{token}"}, headers=KEY)
    clock.now += 5
    await sim.tick()
    fine, broken = sim.webhooks.values()
    assert fine.status == "SUCCESS"
    assert json.loads(fine.response or "") == {"got": fine.task_id, "agent": "Java/17.0.9"}
    assert broken.status == "FAILED"
    assert (broken.response or "").startswith("500 Internal Server Error: ")


@pytest.mark.parametrize("url", ["not a url", "ftp://us.test/x", "http://", "http://[", "http://a\u0000b/"])
async def test_a_webhook_url_that_leads_nowhere_is_a_failed_delivery(url: str) -> None:
    async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport()) as client:
        answer = await post_callback(client)(url, b"{}", {})
    assert answer.status is None
    assert answer.text


# In real time


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def _served(app: Starlette, port: int) -> AsyncIterator[httpx.AsyncClient]:
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="critical", ws="none"))
    serving = asyncio.create_task(server.serve())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
        while not server.started:
            await asyncio.wait({serving}, timeout=0.005)
        try:
            yield http
        finally:
            server.should_exit = True
            await serving


async def test_a_served_simulator_delivers_and_can_be_broken_from_outside() -> None:
    arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(request: Request) -> Response:
        await arrived.put(await request.json())
        return JSONResponse({"ok": True})

    port, our_port = _free_port(), _free_port()
    app = create_app(Options(port=port, task_seconds=0.05))
    receiver = Starlette(routes=[Route("/hook", take, methods=["POST"])])
    async with _served(receiver, our_port), _served(app, port) as http:
        body = {"webhookUrl": f"http://127.0.0.1:{our_port}/hook"}
        planned = await http.post("/simulator/plan", json={"faults": ["failed"], "error_code": "1504"})
        assert planned.json() == {"ok": True}
        submitted = (await http.post(MODEL, json=body, headers=KEY)).json()
        callback = await asyncio.wait_for(arrived.get(), 5)
        assert callback["taskId"] == submitted["taskId"]
        assert callback["eventData"]["errorCode"] == "1504"
        await http.post("/simulator/outage", json={"route": "query", "kind": "502", "times": 1})
        assert (await http.post("/openapi/v2/query")).status_code == 502
        await http.post("/simulator/outage", json={"route": "query", "kind": "refused"})
        with pytest.raises(httpx.RemoteProtocolError):
            await http.post("/openapi/v2/query")
        await http.post("/simulator/outage", json={"route": "query", "kind": "slow", "seconds": 0.01})
        assert (await http.post("/openapi/v2/query")).json()["code"] == 412
        await http.post("/simulator/heal")
        state = (await http.get("/simulator/state")).json()
    assert (state["requests"]["submit"], state["requests"]["query"]) == (1, 3)
    [task] = state["tasks"]
    assert (task["taskId"], task["status"], task["faults"]) == (submitted["taskId"], "FAILED", ["failed"])


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("plan", b"{"),
        ("plan", b"[]"),
        ("plan", b'{"faults": "failed"}'),
        ("plan", b'{"faults": ["fire"]}'),
        ("plan", b'{"faults": [[]]}'),
        ("plan", b'{"faults": [], "speed": 1}'),
        ("plan", b'{"faults": ["late"], "delay": "1"}'),
        ("plan", b'{"faults": ["forgotten"], "detail_knows": 1}'),
        ("plan", b'{"faults": ["no_results"], "results_after_queries": 1.5}'),
        ("outage", b"{}"),
        ("outage", b'{"kind": "500", "times": 0}'),
        ("outage", b'{"kind": "500", "route": "nowhere"}'),
        ("outage", b'{"kind": "slow", "seconds": true}'),
        ("heal", b'{"route": 1}'),
    ],
)
async def test_a_control_request_that_makes_no_sense_is_told_why(path: str, body: bytes) -> None:
    transport = httpx.ASGITransport(create_app(Options()))
    async with httpx.AsyncClient(transport=transport, base_url="http://simulator.test") as http:
        response = await http.post(f"/simulator/{path}", content=body)
    assert response.status_code == 400
    assert response.json()["error"]
