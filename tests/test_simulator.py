"""The simulator keeps the provider's shapes, repeats itself by seed, and each of its faults tells its story."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from provider import (
    DETAIL_KEYS,
    EVENT_KEYS,
    HOOK,
    KEY,
    MODEL,
    QUERY_KEYS,
    START,
    SUBMIT_KEYS,
    Clock,
    Provider,
    document_of,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.simulator import (
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


@pytest.fixture
def provider() -> Provider:
    return Provider()


REFUSING = DeliveryAnswer(404, "no such token")
UNREACHABLE = DeliveryAnswer(None, "Connection refused")


# Shapes


async def test_an_accepted_submission_has_the_documented_keys(provider: Provider) -> None:
    answer = await provider.submit()
    assert list(answer) == SUBMIT_KEYS
    assert answer["status"] in ("QUEUED", "RUNNING")
    assert answer["errorCode"] == answer["errorMessage"] == answer["promptTips"] == ""
    assert answer["results"] is None
    assert len(answer["clientId"]) == 32
    assert int(answer["clientId"], 16) >= 0


async def test_task_ids_are_snowflakes_of_the_clock(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
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


async def test_the_webhook_url_is_no_model_parameter(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    task = provider.sim.tasks[task_id]
    assert task.order.params == {"prompt": "a cat"}
    assert task.order.webhook_url == HOOK
    assert task.order.target == "rhart-video-v3.1-pro-official/reference-to-video"


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": ""}, {"Authorization": "Bearer  "}, {"Authorization": "key"}]
)
@pytest.mark.parametrize("path", [MODEL, "/openapi/v2/query"])
async def test_a_missing_key_is_refused_before_anything_else(
    provider: Provider, path: str, headers: dict[str, str]
) -> None:
    response = await provider.http.post(path, content=b"junk", headers=headers)
    assert document_of(response) == {"code": 412, "msg": "TOKEN_INVALID"}


async def test_a_wrong_key_is_refused_in_each_family_s_own_envelope() -> None:
    provider = Provider(api_key="another")
    answer = await provider.submit()
    assert list(answer) == SUBMIT_KEYS
    assert (answer["taskId"], answer["status"], answer["errorCode"]) == ("", "", "1002")
    assert (await provider.query("123"))["errorCode"] == "1002"
    assert (await provider.v1("cancel", taskId="123"))["code"] == 802
    assert provider.sim.tasks == {}


@pytest.mark.parametrize("body", [b"", b"[]", b'"text"', b"{", b"[" * 100_000, b"\xff", b'{"webhookUrl": 5}'])
async def test_a_body_that_is_no_object_is_refused(provider: Provider, body: bytes) -> None:
    answer = document_of(await provider.http.post(MODEL, content=body, headers=KEY))
    assert (answer["taskId"], answer["errorCode"]) == ("", "1007")
    assert provider.sim.tasks == {}


@pytest.mark.parametrize("path", ["getWebhookDetail", "retryWebhook", "cancel"])
async def test_v1_wants_the_key_in_the_body(provider: Provider, path: str) -> None:
    response = await provider.http.post(f"/task/openapi/{path}", json={"taskId": "1", "webhookId": "1"}, headers=KEY)
    assert document_of(response) == {"code": 301, "msg": "apiKey must not be blank", "data": None}
    assert (await provider.v1(path))["code"] == 301


async def test_a_query_of_a_success_has_the_documented_keys(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    answer = await provider.query(task_id)
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
async def test_a_query_of_no_task_says_which_kind_of_no(provider: Provider, task_id: object, code: str) -> None:
    answer = await provider.query(task_id)
    assert (answer["status"], answer["errorCode"]) == ("", code)


async def test_a_callback_is_the_captured_one_key_by_key(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    [sent] = provider.sim.callbacks
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
    assert dict(provider.headers[0]) == {"Content-Type": "application/json", "User-Agent": "Java/17.0.9"}
    assert (sent.url, sent.status, sent.task_id, sent.attempt, sent.at) == (HOOK, 200, task_id, 1, START + 5)


async def test_the_detail_is_there_from_the_submission_on(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    row = await provider.detail(task_id)
    assert list(row) == DETAIL_KEYS
    assert int(row["id"]) == int(task_id) + 1
    assert row["userApiKey"] == "*" * 18
    assert (row["webhookUrl"], row["eventData"], row["callbackStatus"]) == (HOOK, "", None)
    assert (row["callbackResponse"], row["retryCount"]) == (None, 0)
    assert row["createTime"] == row["updateTime"] == "2026-01-21T20:53:20"


async def test_the_detail_of_a_delivered_callback_keeps_our_answer(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    row = await provider.detail(task_id)
    assert (row["callbackStatus"], row["callbackResponse"], row["retryCount"]) == ("SUCCESS", '{"ok":true}', 0)
    assert json.loads(row["eventData"]) == provider.sim.callbacks[0].document["eventData"]
    assert row["updateTime"] == "2026-01-21T20:53:25"


async def test_without_a_webhook_url_there_is_no_event(provider: Provider) -> None:
    task_id = (await provider.submit(url=None))["taskId"]
    await provider.pass_time(5)
    answer = await provider.v1("getWebhookDetail", taskId=task_id)
    assert answer == {"code": 1, "msg": "webhook event not exists", "data": None}
    assert provider.sim.callbacks == []


# Life of a task


async def test_a_task_waits_runs_and_ends(provider: Provider) -> None:
    seen = set()
    for _ in range(12):
        task_id = (await provider.submit())["taskId"]
        first = (await provider.query(task_id))["status"]
        await provider.pass_time(1)
        second = (await provider.query(task_id))["status"]
        await provider.pass_time(4)
        seen.add((first, second, (await provider.query(task_id))["status"]))
    assert seen == {("QUEUED", "RUNNING", "SUCCESS"), ("RUNNING", "RUNNING", "SUCCESS")}


async def test_a_tick_says_whether_there_was_anything(provider: Provider) -> None:
    assert not await provider.sim.tick()
    assert provider.sim.next_due() is None
    await provider.submit()
    assert not await provider.sim.tick()
    due = provider.sim.next_due()
    assert due is not None
    assert START < due <= START + 5
    provider.clock.now = START + 5
    assert await provider.sim.tick()
    assert not await provider.sim.tick()
    assert provider.sim.next_due() is None


async def test_a_task_can_be_finished_by_hand(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    provider.sim.finish(task_id)
    assert provider.sim.tasks[task_id].status is Status.SUCCESS
    assert provider.sim.callbacks == []
    await provider.sim.tick()
    assert len(provider.sim.callbacks) == 1
    assert provider.sim.next_due() is None


async def test_a_cancelled_task_sends_nothing(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    assert await provider.v1("cancel", taskId=task_id) == {"code": 0, "msg": "success", "data": None}
    assert (await provider.query(task_id))["status"] == "CANCEL"
    assert provider.sim.next_due() is None
    assert (await provider.v1("cancel", taskId=task_id))["code"] == 805
    assert (await provider.v1("cancel", taskId="123"))["code"] == 807


async def test_a_cancelled_task_may_be_told_to_send() -> None:
    provider = Provider(callback_on_cancel=True)
    task_id = (await provider.submit())["taskId"]
    await provider.v1("cancel", taskId=task_id)
    await provider.sim.tick()
    assert provider.sim.callbacks[0].document["eventData"]["status"] == "CANCEL"


@pytest.mark.parametrize("as_number", [False, True])
async def test_too_many_tasks_meet_the_limit_until_one_ends(as_number: bool) -> None:
    provider = Provider(max_in_flight=1, number_421=as_number)
    await provider.submit()
    answer = await provider.submit()
    assert (answer["taskId"], answer["errorCode"]) == ("", 421 if as_number else "421")
    await provider.pass_time(5)
    assert (await provider.submit())["taskId"]


async def test_every_request_is_remembered(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    await provider.query(task_id)
    await provider.detail(task_id)
    assert [each.route for each in provider.sim.requests] == ["submit", "query", "detail"]
    assert provider.sim.requests[0].document == {"prompt": "a cat", "webhookUrl": HOOK}
    assert (provider.sim.requests[1].method, provider.sim.requests[1].path) == ("POST", "/openapi/v2/query")
    assert provider.sim.requests[1].at == START + 5
    assert (provider.sim.count("query"), provider.sim.count("files")) == (1, 0)


# Retries and resends


async def test_a_refused_callback_is_tried_again_until_it_is_accepted(provider: Provider) -> None:
    provider.answers = [REFUSING, UNREACHABLE]
    task_id = await provider.submit_and_end()
    row = await provider.detail(task_id)
    assert (row["callbackStatus"], row["callbackResponse"]) == ("FAILED", '404 Not Found: "no such token"')
    assert not await provider.sim.tick()
    await provider.pass_time(30)
    row = await provider.detail(task_id)
    assert row["callbackResponse"] == f'I/O error on POST request for "{HOOK}": Connection refused'
    assert row["retryCount"] == 1
    await provider.pass_time(30)
    row = await provider.detail(task_id)
    assert (row["callbackStatus"], row["retryCount"]) == ("SUCCESS", 2)
    assert [each.attempt for each in provider.sim.callbacks] == [1, 2, 3]
    assert len({each.body for each in provider.sim.callbacks}) == 1
    assert provider.sim.next_due() is None


async def test_after_the_last_retry_nothing_comes_any_more() -> None:
    provider = Provider(retry_seconds=(1.0, 2.0))
    provider.answers = [REFUSING] * 9
    task_id = await provider.submit_and_end()
    times = [START + 5]
    while (due := provider.sim.next_due()) is not None:
        provider.clock.now = due
        await provider.sim.tick()
        times.append(due)
    assert [each.at for each in provider.sim.callbacks] == times == [START + 5, START + 6, START + 8]
    row = await provider.detail(task_id)
    assert (row["callbackStatus"], row["retryCount"]) == ("FAILED", 2)


@pytest.mark.parametrize(("status", "said"), [(200, "SUCCESS"), (204, "SUCCESS"), (302, "FAILED"), (503, "FAILED")])
async def test_any_2xx_is_success_and_nothing_else(provider: Provider, status: int, said: str) -> None:
    provider.answers = [DeliveryAnswer(status, "")]
    task_id = await provider.submit_and_end()
    assert (await provider.detail(task_id))["callbackStatus"] == said


async def test_a_resend_goes_where_it_is_told(provider: Provider) -> None:
    provider.sim.plan_next(Fault.LOST_CALLBACK)
    task_id = await provider.submit_and_end()
    row = await provider.detail(task_id)
    answer = await provider.v1("retryWebhook", webhookId=row["id"], webhookUrl="https://us.test/other")
    assert answer == {"code": 0, "msg": "", "data": None}
    assert provider.sim.callbacks == []
    await provider.sim.tick()
    [sent] = provider.sim.callbacks
    assert sent.url == "https://us.test/other"
    assert sent.document["eventData"] == json.loads(row["eventData"])
    assert list(sent.document) == ["eventData", "event", "taskId"]
    row = await provider.detail(task_id)
    assert (row["webhookUrl"], row["callbackStatus"], row["retryCount"]) == (HOOK, "SUCCESS", 4)


async def test_a_resend_repeats_the_bytes_and_is_not_retried(provider: Provider) -> None:
    task_id = await provider.submit_and_end()
    provider.answers = [REFUSING]
    await provider.v1("retryWebhook", webhookId=(await provider.detail(task_id))["id"])
    await provider.sim.tick()
    first, second = provider.sim.callbacks
    assert (first.url, first.body) == (second.url, second.body)
    assert provider.sim.next_due() is None


async def test_there_is_nothing_to_resend_before_the_end(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    for webhook_id in ((await provider.detail(task_id))["id"], "123"):
        answer = await provider.v1("retryWebhook", webhookId=webhook_id)
        assert answer == {"code": 1, "msg": "webhook event not exists", "data": None}


# Files


async def test_a_result_can_be_downloaded_whole_and_in_parts() -> None:
    provider = Provider(file_size=150_000)
    url = (await provider.query(await provider.submit_and_end()))["results"][0]["url"]
    whole = await provider.http.get(url)
    assert (whole.status_code, len(whole.content)) == (200, 150_000)
    assert (whole.headers["content-type"], whole.headers["content-length"]) == ("video/mp4", "150000")
    etag = whole.headers["etag"]
    for wanted, part in (("0-9", slice(0, 10)), ("65530-140000", slice(65530, 140001)), ("-5", slice(-5, None))):
        answer = await provider.http.get(url, headers={"Range": f"bytes={wanted}", "If-Range": etag})
        assert (answer.status_code, answer.content) == (206, whole.content[part])
        assert answer.headers["content-range"].endswith("/150000")
    beyond = await provider.http.get(url, headers={"Range": "bytes=150000-"})
    assert (beyond.status_code, beyond.headers["content-range"]) == (416, "bytes */150000")
    other = await provider.http.get(url, headers={"Range": "bytes=0-9", "If-Range": '"other"'})
    assert (other.status_code, len(other.content)) == (200, 150_000)
    head = await provider.http.head(url)
    assert (head.headers["content-length"], head.content) == ("150000", b"")


async def test_a_file_lives_as_long_as_its_link(provider: Provider) -> None:
    task_id = (await provider.submit())["taskId"]
    url = provider.sim.tasks[task_id].links[0]
    assert (await provider.http.get(url)).status_code == 404
    await provider.pass_time(5)
    assert (await provider.http.get(url)).status_code == 200
    await provider.pass_time(86399)
    assert (await provider.http.get(url)).status_code == 200
    await provider.pass_time(1)
    assert (await provider.http.get(url)).status_code == 404


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


async def _life(**options: Any) -> list[object]:
    provider = Provider(**options)
    told: list[object] = [await provider.submit() for _ in range(20)]
    await provider.pass_time(100)
    urls = [task.links[0] for task in provider.sim.tasks.values()]
    told += [each.body for each in provider.sim.callbacks]
    return [*told, (await provider.http.get(urls[0])).content]


async def test_the_same_seed_tells_the_same_story() -> None:
    chances = {"drop": 0.3, "duplicate": 0.3, "fail": 0.3, "junk": 0.3, "late": 0.3}
    first = await _life(seed=7, **chances)
    assert first == await _life(seed=7, **chances)
    assert first != await _life(seed=8, **chances)


async def test_chances_befall_about_as_many_as_they_say() -> None:
    provider = Provider(fail=0.25, drop=1.0)
    for _ in range(200):
        await provider.submit()
    plans = [task.plan for task in provider.sim.tasks.values()]
    assert all(plan.has(Fault.LOST_CALLBACK) for plan in plans)
    assert 25 < sum(plan.fails for plan in plans) < 75


async def test_plans_are_used_in_order_and_go_before_chances() -> None:
    provider = Provider(fail=1.0)
    provider.sim.plan_next()
    provider.sim.plan_next(Fault.LATE, delay=7)
    for _ in range(3):
        await provider.submit()
    plans = [task.plan for task in provider.sim.tasks.values()]
    assert plans[0] == Plan()
    assert plans[1] == Plan(frozenset({Fault.LATE}), delay=7)
    assert plans[2].has(Fault.FAILED)


# One story per fault


async def test_a_lost_callback_never_arrives(provider: Provider) -> None:
    provider.sim.plan_next(Fault.LOST_CALLBACK)
    task_id = await provider.submit_and_end()
    assert provider.sim.callbacks == []
    row = await provider.detail(task_id)
    assert (row["callbackStatus"], row["retryCount"]) == ("FAILED", 3)
    assert row["callbackResponse"] == f'I/O error on POST request for "{HOOK}": Connection refused'
    assert json.loads(row["eventData"])["status"] == "SUCCESS"
    assert provider.sim.next_due() is None


async def test_a_callback_may_never_be_attempted(provider: Provider) -> None:
    provider.sim.plan_next(Fault.NEVER_SENT)
    task_id = await provider.submit_and_end()
    assert provider.sim.callbacks == []
    row = await provider.detail(task_id)
    assert (row["callbackStatus"], row["callbackResponse"], row["retryCount"]) == (None, None, 0)
    assert json.loads(row["eventData"])["status"] == "SUCCESS"


async def test_a_duplicate_is_the_same_bytes_twice(provider: Provider) -> None:
    provider.sim.plan_next(Fault.DUPLICATE)
    task_id = await provider.submit_and_end()
    first, second = provider.sim.callbacks
    assert first == second
    assert (await provider.detail(task_id))["retryCount"] == 0


async def test_a_late_callback_takes_its_time(provider: Provider) -> None:
    provider.sim.plan_next(Fault.LATE, delay=100)
    task_id = await provider.submit_and_end()
    assert (await provider.query(task_id))["status"] == "SUCCESS"
    await provider.pass_time(99)
    assert provider.sim.callbacks == []
    await provider.pass_time(1)
    assert [each.at for each in provider.sim.callbacks] == [START + 105]


@pytest.mark.parametrize("told", [False, True])
async def test_a_callback_may_outrun_the_submit_answer(provider: Provider, told: bool) -> None:
    provider.sim.plan_next(Fault.BEFORE_ANSWER, answer_says_end=told)
    answer = await provider.submit()
    [sent] = provider.sim.callbacks
    assert sent.document["taskId"] == answer["taskId"]
    assert (answer["status"] == "SUCCESS") is told
    assert (answer["results"] is not None) is told
    assert provider.sim.next_due() is None


async def test_a_junk_callback_is_no_json() -> None:
    provider = Provider(seed=3)
    for _ in range(30):
        provider.sim.plan_next(Fault.JUNK_BODY)
        await provider.submit()
    await provider.pass_time(5)
    bodies = {each.body for each in provider.sim.callbacks}
    assert len(bodies) > 4
    for body in bodies:
        with pytest.raises((ValueError, RecursionError)):
            json.loads(body)


async def test_a_wrong_token_differs_in_the_last_segment_only(provider: Provider) -> None:
    provider.sim.plan_next(Fault.WRONG_TOKEN)
    await provider.submit("https://us.test/callbacks/Abc.def?x=1/2")
    await provider.pass_time(5)
    assert provider.sim.callbacks[0].url == "https://us.test/callbacks/Bbc.def?x=1/2"


async def test_a_huge_callback_is_huge_and_true(provider: Provider) -> None:
    provider.sim.plan_next(Fault.HUGE_BODY, megabytes=0.5)
    task_id = await provider.submit_and_end()
    [sent] = provider.sim.callbacks
    assert 524288 < len(sent.body) < 530000
    assert sent.document["eventData"]["taskId"] == task_id


async def test_a_failed_task_says_why_and_costs_nothing(provider: Provider) -> None:
    provider.sim.plan_next(Fault.FAILED, error_code="1504")
    task_id = await provider.submit_and_end()
    answer = await provider.query(task_id)
    assert (answer["status"], answer["errorCode"], answer["results"]) == ("FAILED", "1504", None)
    assert answer["errorMessage"] == answer["failedReason"]["exception_message"]
    assert isinstance(answer["failedReason"]["traceback"], list)
    assert [answer["usage"][key] for key in ("consumeMoney", "consumeCoins", "thirdPartyConsumeMoney")] == [None] * 3
    event = provider.sim.callbacks[0].document["eventData"]
    assert (event["status"], event["errorCode"]) == ("FAILED", "1504")


async def test_a_success_may_come_without_results(provider: Provider) -> None:
    provider.sim.plan_next(Fault.NO_RESULTS)
    provider.sim.plan_next(Fault.NO_RESULTS, results_after_queries=2)
    never, later = [(await provider.submit())["taskId"] for _ in range(2)]
    await provider.pass_time(5)
    assert [each.document["eventData"]["results"] for each in provider.sim.callbacks] == [None, None]
    assert [(await provider.query(never))["results"] for _ in range(4)] == [None] * 4
    told = [await provider.query(later) for _ in range(3)]
    assert {each["status"] for each in told} == {"SUCCESS"}
    assert [each["results"] is None for each in told] == [True, True, False]


async def test_a_false_claim_is_exposed_by_the_query(provider: Provider) -> None:
    provider.sim.plan_next(Fault.FALSE_CLAIM)
    task_id = await provider.submit_and_end()
    event = provider.sim.callbacks[0].document["eventData"]
    assert (event["status"], event["errorCode"]) == ("SUCCESS", "")
    answer = await provider.query(task_id)
    assert (answer["status"], answer["errorCode"]) == ("FAILED", "1501")
    assert (await provider.http.get(event["results"][0]["url"])).status_code == 404
    assert json.loads((await provider.detail(task_id))["eventData"])["status"] == "FAILED"


async def test_an_early_claim_becomes_true_later(provider: Provider) -> None:
    provider.sim.plan_next(Fault.EARLY_CLAIM, seconds=20)
    task_id = await provider.submit_and_end()
    assert provider.sim.callbacks[0].document["eventData"]["status"] == "SUCCESS"
    answer = await provider.query(task_id)
    assert (answer["status"], answer["results"]) == ("RUNNING", None)
    await provider.pass_time(20)
    assert (await provider.query(task_id))["status"] == "SUCCESS"


async def test_a_task_whose_answer_is_lost_exists_all_the_same(provider: Provider) -> None:
    provider.sim.plan_next(Fault.ANSWER_LOST)
    with pytest.raises(httpx.RemoteProtocolError):
        await provider.submit()
    assert len(provider.sim.tasks) == 1
    await provider.pass_time(5)
    assert len(provider.sim.callbacks) == 1


@pytest.mark.parametrize("detail_knows", [True, False])
async def test_a_forgotten_task_is_known_until_its_end(provider: Provider, detail_knows: bool) -> None:
    provider.sim.plan_next(Fault.FORGOTTEN, detail_knows=detail_knows)
    task_id = (await provider.submit())["taskId"]
    assert (await provider.query(task_id))["errorCode"] == ""
    await provider.pass_time(5)
    answer = await provider.query(task_id)
    assert (answer["status"], answer["errorCode"]) == ("", "1004")
    detail = await provider.v1("getWebhookDetail", taskId=task_id)
    assert detail["code"] == (0 if detail_knows else 1)


@pytest.mark.parametrize("fresh", [True, False])
async def test_an_expired_link_may_be_replaced_by_a_query(provider: Provider, fresh: bool) -> None:
    provider.sim.plan_next(Fault.EXPIRED_LINK, fresh_after_query=fresh)
    task_id = await provider.submit_and_end()
    dead = provider.sim.callbacks[0].document["eventData"]["results"][0]["url"]
    assert (await provider.http.get(dead)).status_code == 404
    url = (await provider.query(task_id))["results"][0]["url"]
    assert (url != dead) is fresh
    assert (await provider.http.get(url)).status_code == (200 if fresh else 404)
    assert (await provider.query(task_id))["results"][0]["url"] == url


async def test_a_callback_may_name_another_task(provider: Provider) -> None:
    provider.sim.plan_next(Fault.OTHER_ID)
    task_id = await provider.submit_and_end()
    [sent] = provider.sim.callbacks
    other = sent.document["taskId"]
    assert other not in provider.sim.tasks
    assert sent.document["eventData"]["taskId"] == other
    assert (sent.url, sent.task_id) == (HOOK, task_id)


# Outages


@pytest.mark.parametrize("kind", ["429", "500", "502", "503"])
async def test_an_outage_meets_as_many_requests_as_it_is_told(provider: Provider, kind: str) -> None:
    provider.sim.outage("submit", kind, times=2)
    for _ in range(2):
        response = await provider.http.post(MODEL, json={}, headers=KEY)
        assert response.status_code == int(kind)
        assert response.headers.get("retry-after") == ("1" if kind == "429" else None)
    assert provider.sim.tasks == {}
    assert (await provider.submit())["taskId"]
    assert provider.sim.count("submit") == 3


async def test_an_outage_lasts_until_it_is_healed(provider: Provider) -> None:
    provider.sim.outage("*", "junk")
    response = await provider.http.post("/openapi/v2/query", json={"taskId": "1"}, headers=KEY)
    assert response.status_code == 200
    with pytest.raises(ValueError, match="Expecting value"):
        response.json()
    provider.sim.outage("query", "503")
    assert (await provider.http.post("/openapi/v2/query")).status_code == 503
    provider.sim.heal("query")
    assert (await provider.http.post("/openapi/v2/query")).status_code == 200
    provider.sim.heal()
    assert (await provider.query("123"))["errorCode"] == "1004"


async def test_a_refused_connection_reaches_nothing_and_a_slow_one_does(provider: Provider) -> None:
    provider.sim.outage("submit", "refused", times=1)
    with pytest.raises(httpx.ConnectError):
        await provider.submit()
    assert provider.sim.tasks == {}
    provider.sim.outage("submit", "slow", times=1)
    with pytest.raises(httpx.ReadTimeout):
        await provider.submit()
    assert len(provider.sim.tasks) == 1


def test_an_outage_that_does_not_exist_is_refused(provider: Provider) -> None:
    with pytest.raises(ValueError, match="no route"):
        provider.sim.outage("nowhere", "500")
    with pytest.raises(ValueError, match="fire"):
        provider.sim.outage("submit", "fire")


# Delivery


async def test_callbacks_go_into_an_app_without_a_socket() -> None:
    async def take(request: Request) -> Response:
        if request.path_params["token"] == "broken":
            raise RuntimeError("the receiver has a bug")
        return JSONResponse({"got": (await request.json())["taskId"], "agent": request.headers["user-agent"]})

    app = Starlette(routes=[Route("/callbacks/{token}", take, methods=["POST"])])
    clock = Clock()
    sim = Simulator(Options(retry_seconds=()), clock=clock, deliver=asgi_deliver(app))
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
