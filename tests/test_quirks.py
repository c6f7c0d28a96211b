"""The provider's quirks, one line each, and the tests that hold what we make of them.

What is proven where it belongs is named by its file; the rest is tested below, in the order of the list.
"""

import ast
from functools import cache
from pathlib import Path

import httpx
import msgspec
import pytest
from house import API_KEY, INPUT, MODEL, TLS, House, open_house

from receiver.egress.client import Egress
from receiver.model import rules
from receiver.model.records import Api, End, Json, JsonObject, Kind, Result, TaskError
from receiver.model.rules import InDoubt, Later, Rejected
from receiver.orders.exchange import Asker
from receiver.runninghub import wire
from receiver.runninghub.client import RunningHub, Submission, open_http
from receiver.runninghub.errors import CODES, ProviderError, told
from receiver.runninghub.requests import submit_request
from receiver.runninghub.resources import Resources
from receiver.simulator import Fault
from receiver.simulator.workflows import PICTURE_APP, TEXT_TO_IMAGE, Workflow
from receiver.submit import submit_next

HERE = Path(__file__)
QUIRKS: dict[str, tuple[str, ...]] = {
    # ------------------------------------------------------------ hosts
    "two sites, .ai and .cn, have the same paths": ("test_both_sites_are_asked_at_the_same_paths",),
    "a key of one site looks like no key on the other": (
        "test_a_key_that_is_refused_names_the_remedy",
        "test_a_key_of_the_other_site_is_told_with_the_remedy",
    ),
    "the vendor's own base URL ends in /openapi/v2": ("test_the_vendors_base_url_means_its_site",),
    "results and uploads lie on other hosts, which have no business with the key": (
        "test_resources.py::test_a_lora_is_put_at_the_address_it_is_given_and_the_key_is_not_shown_there",
    ),
    # ------------------------------------------------------------ keys
    "V1 looks for the key in the body, and its pages want it in the header and Host exact as well": (
        "test_a_v1_request_shows_the_key_twice_and_names_its_host",
        "test_kinds.py::test_a_v1_submission_carries_the_key_in_its_body_and_gets_its_id_from_the_data",
        "test_simulator.py::test_v1_wants_the_key_in_the_body",
    ),
    "the account alone calls the key apikey": (
        "test_the_account_is_asked_with_a_key_in_small_letters",
        "test_simulator_resources.py::"
        "test_the_account_takes_the_key_by_the_name_in_its_refusal_too_unless_told_otherwise",
    ),
    "an account asked without a key answers 1601": (
        "test_an_account_that_misses_its_key_says_so_by_code",
        "test_simulator_resources.py::test_the_account_asks_for_its_key_in_the_body",
    ),
    "an app's call example takes the key in the address": (
        "test_resources.py::test_an_apps_fields_come_with_their_choices_and_the_key_goes_into_the_address",
    ),
    "styles are told without a key": ("test_resources.py::test_styles_are_asked_for_without_any_key",),
    "the old upload takes the key as a field of its form": (
        "test_resources.py::test_an_old_upload_has_the_key_in_its_form",
    ),
    "V2 takes the key in the header and nothing of it in the body": (
        "test_kinds.py::test_a_v2_submission_keeps_the_key_out_of_its_body",
        "test_a_query_keeps_the_key_out_of_its_body",
    ),
    "a bad key is refused with HTTP 200, or with another status: the body decides": (
        "test_the_body_decides_about_a_key_whatever_the_status",
        "test_submit.py::test_a_refusal_ends_the_task_as_rejected_with_the_providers_code",
    ),
    "models want an Enterprise-Shared key": ("test_a_key_of_the_wrong_kind_names_the_remedy",),
    # ------------------------------------------------------------ envelopes
    "there are four envelopes": ("test_each_of_the_four_envelopes_is_told_apart",),
    "a sentence is called msg, message or errorMessage": (
        "test_the_sentence_is_found_under_each_of_its_names",
        "test_wire.py::test_an_envelope_is_its_code_message_and_data",
    ),
    "V1 may add errorMessages, null": ("test_error_messages_that_are_null_are_no_error",),
    "V1's success is code 0, whatever msg says": ("test_success_is_the_code_0_whatever_it_says",),
    "200 is no success in V1": (
        "test_200_is_no_success",
        "test_a_code_beside_a_task_id_leaves_the_task_in_doubt",
    ),
    "804 and 813 are states, 805 an end": ("test_wire.py::test_every_shape_of_a_callback_is_understood",),
    # ------------------------------------------------------------ ids
    "ids have 64 bits, and come as texts or numbers": (
        "test_an_id_is_exact_to_its_last_digit_in_every_envelope",
        "test_wire.py::test_a_number_of_64_bits_keeps_its_last_digit",
        "test_wire.py::test_a_float_id_is_no_id",
        "test_kinds.py::test_a_v1_task_id_that_is_a_number_is_as_good_as_a_text",
    ),
    "ids in taskUsageList are bare numbers": (
        "test_wire.py::test_the_tasks_a_task_was_made_of_are_kept_with_what_they_cost",
        "test_simulator.py::test_a_callback_is_the_captured_one_key_by_key",
    ),
    "an app's id must go out as a text": ("test_an_apps_id_goes_out_as_a_text",),
    # ------------------------------------------------------------ callbacks
    "1. eventData is a text in V1 and an object in V2": (
        "test_wire.py::test_every_shape_of_a_callback_is_understood",
        "test_kinds.py::test_a_task_of_every_kind_is_submitted_called_back_confirmed_and_acted_on",
    ),
    "2. a failure is a TASK_END too": (
        "test_the_event_of_a_failure_is_that_of_a_success",
        "test_stories.py::test_a_task_that_fails_runs_the_action_for_failure_and_says_why",
    ),
    "3. V1 fails by code 805, and msg proves nothing": ("test_a_failure_that_says_success_is_a_failure",),
    "4. ids beyond 2**53": ("test_an_id_is_exact_to_its_last_digit_in_every_envelope",),
    "5. a callback may overtake the answer to its own submission, or match nothing yet": (
        "test_stories.py::test_a_callback_may_overtake_its_own_submit_answer",
        "test_submit.py::test_a_task_whose_answer_was_lost_ends_when_its_callback_comes",
        "test_receive.py::test_a_hostile_body_is_kept_and_answered",
    ),
    "6. callbacks are repeated": ("test_stories.py::test_three_tellings_are_one_event",),
    "7. a callback proves nothing": (
        "test_stories.py::test_a_callback_that_claims_success_for_a_failed_task_runs_no_action_for_success",
        "test_stories.py::test_the_results_come_from_the_provider_and_not_from_the_callback",
        "test_receive.py::test_a_forged_token_is_answered_404_and_leaves_no_trace",
    ),
    "8. SUCCESS may come before its results": (
        "test_reconcile.py::test_success_without_results_is_believed_after_five_minutes_of_questions_and_the_detail",
        "test_reconcile.py::test_results_that_come_late_are_kept",
    ),
    "8b. the status endpoint has a bare word and no results": (
        "test_resources.py::test_a_status_is_a_bare_word_and_an_unknown_task_an_error",
    ),
    "9. a callback may never come": (
        "test_reconcile.py::test_a_callback_that_was_never_sent_is_missed_after_five_minutes",
        "test_reconcile.py::test_a_lost_callback_is_missed_explained_resent_and_closed_as_late",
    ),
    "10. links die after 24 hours": (
        "test_stories.py::test_refused_links_are_tried_and_asked_for_anew_until_links_die",
        "test_uploads.py::test_the_same_bytes_go_there_once_a_day",
    ),
    "11. a key of the wrong site looks like no key": (
        "test_a_key_that_is_refused_names_the_remedy",
        "test_a_key_of_the_other_site_is_told_with_the_remedy",
    ),
    "12. apikey and apiKey, msg and message": (
        "test_the_account_is_asked_with_a_key_in_small_letters",
        "test_the_sentence_is_found_under_each_of_its_names",
    ),
    "13. taskCostTime is a number here, a text there": ("test_what_a_task_took_is_a_text_whatever_it_came_as",),
    "14. usePersonalQueue is a boolean, or a text": (
        "test_the_personal_queue_goes_out_as_it_was_given",
        "test_simulator_kinds.py::test_the_personal_queue_is_a_boolean_or_the_word_for_one",
    ),
    "14b. some WebP images break LoadImage": ("test_an_image_that_cannot_be_identified_names_webp",),
    "14c. a busy provider may say so without a code": (
        "test_only_words_that_say_busy_and_nothing_else_send_a_task_again",
        "test_busy_words_under_a_doubtful_code_or_status_prove_nothing",
        "test_421_is_a_number_a_text_or_words",
        "test_busy_words_pause_the_queue_and_the_task_is_sent_later",
    ),
    '15. an errorCode of "" is none, and an errorMessage alone is a failure': (
        "test_an_error_message_alone_refuses_a_submission",
        "test_an_error_message_alone_is_the_end_of_a_task",
        "test_an_error_of_the_question_ends_no_task",
        "test_what_was_made_is_not_lost_to_a_message",
        "test_wire.py::test_a_code_is_a_text_and_zero_is_none",
    ),
    "16. a submission has no idempotency key": (
        "test_submit.py::test_an_answer_that_proves_nothing_leaves_the_task_in_doubt_and_it_is_never_sent_again",
    ),
    "17. running tasks fail for passing reasons": ("test_a_task_that_failed_is_not_paid_for_twice",),
    "18. errorMessage is general, exception_message is not": (
        "test_the_exception_is_told_rather_than_the_general_sentence",
        "test_a_reason_that_is_a_text_is_read_as_the_object_it_is",
    ),
    "19. seeds are drawn anew unless they are overridden": (
        "test_a_seed_goes_out_as_it_was_given",
        "test_simulator_kinds.py::test_seeds_are_drawn_anew_unless_the_order_sets_them",
    ),
    "20. a workflow must have been run by hand once": ("test_a_workflow_that_never_ran_names_the_remedy",),
    "21. a text result has no url": ("test_a_text_is_a_result",),
    "22. the vendor's own client breaks at SUCCESS without results": (
        "test_reconcile.py::test_success_without_results_is_believed_after_five_minutes_of_questions_and_the_detail",
    ),
    "23. 412 is a bad key, though its page says a bad path": ("test_412_is_a_bad_key",),
    "24. the webhook detail's times are Beijing's, without saying so": ("test_no_time_of_the_provider_is_believed",),
    "25. unknown fields appear": (
        "test_fields_that_nobody_knows_change_nothing",
        "test_wire.py::test_a_field_of_the_wrong_type_costs_that_field_alone",
    ),
}

TASK = "2052287938007814145"
ID = "1904136902449209346"
REMEDY = "base_url"


@cache
def found_in(file: str) -> frozenset[str]:
    tree = ast.parse((HERE.parent / file).read_text())
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions) and node.name.startswith("test_"))


def test_every_quirk_of_the_list_is_held_by_tests_that_exist() -> None:
    for quirk, names in QUIRKS.items():
        assert names, quirk
        for name in names:
            file, _, test = name.rpartition("::")
            assert test in found_in(file or HERE.name), f"{quirk}: there is no {name}"


def test_every_test_of_this_file_belongs_to_a_quirk() -> None:
    named = {name for names in QUIRKS.values() for name in names}
    lists = {test for test in found_in(HERE.name) if test.startswith("test_every_")}
    assert found_in(HERE.name) - named == lists


class Site:
    """A provider that answers everything alike, and remembers what it was asked."""

    def __init__(self, answer: object, status: int = 200, base_url: str = "https://www.runninghub.ai") -> None:
        self.body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        self.status = status
        self.base_url = base_url
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        return httpx.Response(self.status, content=self.body)

    def hub(self) -> RunningHub:
        return RunningHub(self.http(), self.base_url, API_KEY, attempts=1, read_wait=0.0)

    def resources(self) -> Resources:
        return Resources(self.http(), self.base_url, API_KEY, Egress(tls=TLS), attempts=1, read_wait=0.0)

    def http(self) -> httpx.AsyncClient:
        return open_http(httpx.MockTransport(self), TLS)

    async def submit(self, kind: Kind = Kind.MODEL, api: Api = Api.V2) -> Submission:
        target = MODEL if kind is Kind.MODEL else ID
        return (await self.hub().submit(submit_request(kind, api, target, {}, None))).content

    async def verdict(self, kind: Kind = Kind.MODEL, api: Api = Api.V2) -> Later | InDoubt | Rejected:
        """What becomes of a task whose submission is answered so."""
        with pytest.raises(ProviderError) as refused:
            await self.submit(kind, api)
        return rules.submission_verdict(refused.value.code, refused.value.http_status)

    async def query(self) -> wire.TaskReport:
        return (await self.hub().query(TASK)).content

    @property
    def sent(self) -> JsonObject:
        body: JsonObject = msgspec.json.decode(self.asked[-1].content)
        return body


def refused(**fields: Json) -> JsonObject:
    """A V2 submission that was turned away: the task object without a task."""
    empty: JsonObject = {"taskId": "", "status": "", "errorCode": "", "errorMessage": ""}
    return {**empty, "results": None, "clientId": "", "promptTips": "", **fields}


def told_of(**fields: Json) -> JsonObject:
    """What a query says of a task."""
    running: JsonObject = {"taskId": TASK, "status": "RUNNING", "errorCode": "", "errorMessage": "", "results": None}
    return {**running, **fields}


def called_back(inner: JsonObject) -> wire.TaskReport:
    return wire.read_callback(msgspec.json.encode({"event": "TASK_END", "taskId": TASK, "eventData": inner}))


V1_TEXT = "APIKEY_TASK_STATUS_ERROR"
RESULT: JsonObject = {"url": "https://files.test/a.png", "outputType": "png", "text": None}


# ---------------------------------------------------------------- hosts


@pytest.mark.parametrize(
    "site", ["https://www.runninghub.ai", "https://www.runninghub.cn", "https://www.runninghub.cn/"]
)
async def test_both_sites_are_asked_at_the_same_paths(site: str) -> None:
    provider = Site(told_of(), base_url=site)
    await provider.query()
    await provider.submit()
    paths = [str(request.url).removeprefix(site.rstrip("/")) for request in provider.asked]
    assert paths == ["/openapi/v2/query", f"/openapi/v2/{MODEL}"]


@pytest.mark.parametrize("end", ["/openapi/v2", "/openapi/v2/"])
async def test_the_vendors_base_url_means_its_site(end: str) -> None:
    provider = Site(told_of(), base_url=f"https://www.runninghub.cn{end}")
    await provider.query()
    assert str(provider.asked[0].url) == "https://www.runninghub.cn/openapi/v2/query"


@pytest.mark.parametrize("code", ["401", "412", "802", "806", "1002"])
def test_a_key_that_is_refused_names_the_remedy(code: str) -> None:
    for said in ("", CODES[code].name, "API Key 不存在"):
        error = ProviderError(code, said)
        assert REMEDY in str(error)
        assert "runninghub.ai" in error.meaning
        assert "runninghub.cn" in error.meaning
        assert API_KEY not in str(error)


@pytest.mark.story
@pytest.mark.parametrize(("kind", "api"), [("model", "v2"), ("app", "v1")])
async def test_a_key_of_the_other_site_is_told_with_the_remedy(house: House, kind: str, api: str) -> None:
    await house.reopen(RUNNINGHUB_API_KEY="another-key-of-thirty-two-letters")
    order = {"kind": kind, "api": api, "target": MODEL if kind == "model" else PICTURE_APP.id}
    answer = await house.api.post("/tasks", json={**order, "input": INPUT if kind == "model" else {}})
    await house.settle()
    task = await house.task(answer.json()["id"])
    assert task.error is not None
    assert (task.state, task.error.code) == ("rejected", "1002" if api == "v2" else "802")
    assert REMEDY in task.error.message
    (alert,) = (await house.api.get("/alerts?state=open")).json()["items"]
    assert alert["kind"] == "provider_key_refused"
    assert REMEDY in alert["message"]


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize("site", ["https://www.runninghub.ai", "https://www.runninghub.cn"])
async def test_a_v1_request_shows_the_key_twice_and_names_its_host(site: str) -> None:
    provider = Site({"code": 0, "msg": "", "data": None}, base_url=site)
    await provider.hub().cancel(TASK)
    headers = provider.asked[0].headers
    assert provider.sent == {"apiKey": API_KEY, "taskId": TASK}
    assert headers["authorization"] == f"Bearer {API_KEY}"
    assert headers["host"] == site.removeprefix("https://")
    assert headers["content-type"] == "application/json"


async def test_the_account_is_asked_with_a_key_in_small_letters() -> None:
    provider = Site({"code": 0, "msg": "success", "data": {"remainCoins": "7", "remainMoney": None}})
    account = await provider.hub().account()
    assert (account.coins, account.money) == ("7", None)
    assert (provider.asked[0].url.path, provider.sent) == ("/uc/openapi/accountStatus", {"apikey": API_KEY})


async def test_an_account_that_misses_its_key_says_so_by_code() -> None:
    with pytest.raises(ProviderError) as error:
        await Site({"code": 1601, "msg": "param apiKey is required", "data": None}).hub().account()
    assert (error.value.code, error.value.name, error.value.retryable) == ("1601", "APIKEY_REQUIRED", False)


async def test_a_query_keeps_the_key_out_of_its_body() -> None:
    provider = Site(told_of())
    await provider.query()
    assert provider.sent == {"taskId": TASK}
    assert provider.asked[0].headers["authorization"] == f"Bearer {API_KEY}"


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("answer", [refused(errorCode="1002"), {"code": 412, "msg": "TOKEN_INVALID"}])
async def test_the_body_decides_about_a_key_whatever_the_status(status: int, answer: JsonObject) -> None:
    with pytest.raises(ProviderError) as error:
        await Site(answer, status).submit()
    assert error.value.code in ("1002", "412")
    assert await Site(answer, status).verdict() == Rejected()


def test_a_key_of_the_wrong_kind_names_the_remedy() -> None:
    assert "Enterprise-Shared" in told("1014", "需要企业级共享 API Key")


# ---------------------------------------------------------------- envelopes


async def test_each_of_the_four_envelopes_is_told_apart() -> None:
    v1: JsonObject = {"code": 0, "msg": "success", "data": {"taskId": TASK, "taskStatus": "RUNNING"}}
    media: JsonObject = {"code": 0, "message": "success", "data": {"concurrentLimit": 2}}
    early: JsonObject = {"code": 412, "msg": "TOKEN_INVALID"}
    assert (await Site(v1).submit(Kind.WORKFLOW, Api.V1)).task_id == TASK
    assert (await Site(told_of()).submit()).task_id == TASK
    assert (await Site(media).resources().queue()).limit == 2
    assert await Site(early).verdict() == await Site(early).verdict(Kind.WORKFLOW, Api.V1) == Rejected()
    # Each in the place of the other is no success: what cannot be read leaves a task in doubt.
    assert await Site(v1).verdict() == InDoubt()
    assert await Site(told_of()).verdict(Kind.WORKFLOW, Api.V1) == InDoubt()
    assert await Site(media).verdict() == await Site(media).verdict(Kind.WORKFLOW, Api.V1) == InDoubt()


@pytest.mark.parametrize("name", ["msg", "message", "errorMessage"])
async def test_the_sentence_is_found_under_each_of_its_names(name: str) -> None:
    with pytest.raises(ProviderError) as error:
        await Site({"code": 803, name: "node 6 has no such field"}).submit()
    assert (error.value.code, error.value.meaning) == ("803", "node 6 has no such field")
    if name != "errorMessage":
        with pytest.raises(ProviderError, match="node 6 has no such field"):
            await Site({"code": 803, name: "node 6 has no such field", "data": None}).submit(Kind.APP, Api.V1)


async def test_error_messages_that_are_null_are_no_error() -> None:
    answer = {"code": 0, "msg": "", "errorMessages": None, "data": {"taskId": TASK}}
    assert (await Site(answer).submit(Kind.APP, Api.V1)).task_id == TASK


@pytest.mark.parametrize("said", ["success", "SUCCESS", "", "failed", None])
async def test_success_is_the_code_0_whatever_it_says(said: str | None) -> None:
    answer = {"code": 0, "msg": said, "data": {"taskId": TASK}}
    assert (await Site(answer).submit(Kind.APP, Api.V1)).task_id == TASK


async def test_200_is_no_success() -> None:
    answer: JsonObject = {"code": 200, "msg": "success", "data": None}
    assert await Site(answer).verdict(Kind.APP, Api.V1) == Rejected()
    with pytest.raises(ProviderError):
        await Site(answer).hub().cancel(TASK)
    assert called_back({"code": 200, "msg": "success", "data": []}).end is End.FAILED


async def test_a_code_beside_a_task_id_leaves_the_task_in_doubt() -> None:
    """Whoever took it for refused would order, and pay, once more."""
    told_in_data: JsonObject = {"data": {"taskId": TASK, "taskStatus": "RUNNING"}}
    errors: list[JsonObject] = [{"code": 200, "msg": "success"}, {"code": 421, "msg": "queue limit"}, {"msg": "busy"}]
    # An id that lost its last digits, a status that says it runs, a success: all of them speak of a task.
    signs: list[JsonObject] = [{"taskId": float(TASK)}, {"taskId": "", "status": "RUNNING"}, {"status": "SUCCESS"}]
    for error in errors:
        assert await Site({**error, **told_in_data}).verdict(Kind.APP, Api.V1) == InDoubt()
        for sign in (told_in_data, *signs):
            assert await Site({**error, **sign}).verdict() == InDoubt()
    for kind in ((Kind.MODEL, Api.V2), (Kind.APP, Api.V1)):
        assert await Site({"code": 0, "msg": "queue limit", "data": None}).verdict(*kind) == InDoubt()


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize("given", [TASK, int(TASK)])
async def test_an_id_is_exact_to_its_last_digit_in_every_envelope(given: Json) -> None:
    assert int(TASK) > 2**53
    v1 = {"code": 0, "msg": "", "data": {"taskId": given}}
    assert (await Site(told_of(taskId=given)).submit()).task_id == TASK
    assert (await Site(v1).submit(Kind.WORKFLOW, Api.V1)).task_id == TASK
    assert (await Site(told_of(taskId=given)).query()).task_id == TASK
    assert wire.read_webhook_detail({"id": given, "taskId": given}).task_id == TASK
    inner: JsonObject = {"taskId": given, "status": "SUCCESS"}
    assert wire.read_callback(msgspec.json.encode({"eventData": inner})).task_id == TASK


async def test_an_apps_id_goes_out_as_a_text() -> None:
    provider = Site({"code": 0, "msg": "", "data": {"taskId": TASK}})
    await provider.submit(Kind.APP, Api.V1)
    assert provider.sent["webappId"] == ID


# ---------------------------------------------------------------- callbacks


def test_the_event_of_a_failure_is_that_of_a_success() -> None:
    ends = [
        called_back({"status": "FAILED", "errorCode": "1501"}).end,
        called_back({"code": 805, "msg": V1_TEXT, "data": {"failedReason": {}}}).end,
        called_back({"status": "SUCCESS", "results": [RESULT]}).end,
    ]
    assert ends == [End.FAILED, End.FAILED, End.SUCCEEDED]


def test_a_failure_that_says_success_is_a_failure() -> None:
    assert called_back({"code": 805, "msg": "success", "data": None}).end is End.FAILED
    assert called_back({"code": 0, "msg": "SUCCESS", "data": []}).end is End.SUCCEEDED
    assert called_back({"code": 0, "msg": V1_TEXT, "data": []}).end is End.SUCCEEDED


@pytest.mark.parametrize("seconds", [78, "78"])
def test_what_a_task_took_is_a_text_whatever_it_came_as(seconds: Json) -> None:
    item: JsonObject = {"fileUrl": "https://files.test/a.png", "fileType": "png", "taskCostTime": seconds}
    assert called_back({"code": 0, "msg": "", "data": [item]}).usage == {"taskCostTime": "78"}
    v2: JsonObject = {"status": "SUCCESS", "results": [RESULT], "usage": {"taskCostTime": seconds}}
    assert called_back(v2).usage == {"taskCostTime": "78"}


# ---------------------------------------------------------------- submitting


@pytest.mark.story
@pytest.mark.parametrize("api", ["v1", "v2"])
@pytest.mark.parametrize("spoken", [True, False, "true", "false"])
async def test_the_personal_queue_goes_out_as_it_was_given(house: House, api: str, spoken: bool | str) -> None:
    order = {"kind": "workflow", "api": api, "target": TEXT_TO_IMAGE.id, "input": {"usePersonalQueue": spoken}}
    answer = await house.api.post("/tasks", json=order)
    await house.settle()
    assert (await house.task(answer.json()["id"])).state == "submitted"
    (sent,) = (each for each in house.simulator.requests if each.route in ("create", "run_workflow"))
    assert (sent.document["usePersonalQueue"], type(sent.document["usePersonalQueue"])) == (spoken, type(spoken))


WEBP = "cannot identify image file <_io.BytesIO object at 0x7f12>"


@pytest.mark.parametrize("said", [WEBP, "PIL.UnidentifiedImageError: " + WEBP])
def test_an_image_that_cannot_be_identified_names_webp(said: str) -> None:
    inner: JsonObject = {"status": "FAILED", "errorCode": "1000", "failedReason": {"exception_message": said}}
    error = called_back(inner).error
    assert error is not None
    assert error.message.startswith(said)
    assert "WebP" in error.message
    assert "PNG or JPEG" in error.message


BUSY = [
    "Queue limit reached",
    "The service is currently busy",
    "Too Many Requests",
    "当前分组上游负载已饱和, 请稍后重试",
    "系统繁忙, 请稍后再试",
]
UNCLEAR = [
    "请稍后重试",
    "please try again later",
    "系统异常, 请稍后重试",
    "internal error: queue busy",
    "request timed out",
    "connection reset",
    "服务器错误, 系统繁忙",
]


@pytest.mark.parametrize(
    ("said", "expected"),
    [*((said, Later(20.0)) for said in BUSY), *((said, InDoubt()) for said in UNCLEAR)],
)
async def test_only_words_that_say_busy_and_nothing_else_send_a_task_again(
    said: str, expected: Later | InDoubt
) -> None:
    """To try again is what is said after an error of any kind, when the task may exist."""
    assert await Site(refused(errorMessage=said)).verdict() == expected
    assert await Site(refused(errorMessage=said, errorCode=None, taskId=None)).verdict() == expected
    assert await Site(refused(errorMessage=said, status="FAILED")).verdict() == expected
    assert await Site({"errorMessage": said}).verdict(Kind.APP, Api.V1) == expected


@pytest.mark.parametrize("said", BUSY)
async def test_busy_words_under_a_doubtful_code_or_status_prove_nothing(said: str) -> None:
    """There is no second bill for waiting, but there may be one for sending again."""
    for code in ("500", "1000", "1005", "1012", "503"):
        assert await Site(refused(errorCode=code, errorMessage=said)).verdict() == InDoubt(), code
    for status in (500, 502, 503, 504):
        assert await Site(refused(errorMessage=said), status).verdict() == InDoubt(), status
        assert await Site({"message": said}, status).verdict() == InDoubt(), status
    for status in (302, 408, 409, 425):
        assert await Site({"message": said}, status).verdict() == InDoubt(), status
    for status in (400, 403):
        assert await Site({"message": said}, status).verdict() == Later(20.0), status
    assert await Site(refused(errorCode="1501", errorMessage=said)).verdict() == Rejected()
    assert (await Site(told_of(errorMessage=said)).submit()).task_id == TASK


@pytest.mark.parametrize("kind", [(Kind.MODEL, Api.V2), (Kind.APP, Api.V2), (Kind.APP, Api.V1)])
async def test_421_is_a_number_a_text_or_words(kind: tuple[Kind, Api]) -> None:
    name = "code" if kind[1] is Api.V1 else "errorCode"
    for code in (421, "421"):
        assert await Site({name: code, "msg": "TASK_QUEUE_MAXED", "taskId": ""}).verdict(*kind) == Later(15.0)
    for field in ("message", "msg", "errorMessage"):
        for said in ("queue limit", "Queue Limit exceeded"):
            assert await Site({field: said}).verdict(*kind) == Later(20.0), field
            assert await Site({field: said, name: "QUEUE_FULL", "data": None}).verdict(*kind) == Later(20.0), field


@pytest.mark.story
async def test_busy_words_pause_the_queue_and_the_task_is_sent_later(house: House) -> None:
    task_id = await house.submit()
    busy, service = Site(refused(errorMessage="currently busy")), house.service
    policy = service.settings.policy
    asker = Asker(busy.hub(), house.store, service.redact, house.clock)
    line = await submit_next(house.store, asker, service.links, service.definitions, policy, house.clock)
    assert line == {"task": task_id, "outcome": "later", "code": "busy"}
    await house.advance(19)
    assert ((await house.task(task_id)).state, house.simulator.count("submit")) == ("queued", 0)
    await house.advance(10)
    assert ((await house.task(task_id)).state, house.simulator.count("submit")) == ("succeeded", 1)
    assert await house.alerts() == []


# ---------------------------------------------------------------- failing


@pytest.mark.parametrize("said", ["prompt is invalid", "图片违规", "insufficient balance"])
async def test_an_error_message_alone_refuses_a_submission(said: str) -> None:
    for answer in (refused(errorMessage=said), refused(errorMessage=said, errorCode=None), {"errorMessage": said}):
        with pytest.raises(ProviderError) as error:
            await Site(answer).submit()
        assert (error.value.code, error.value.meaning) == ("refused", said)
        assert await Site(answer).verdict() == Rejected()
        assert await Site(answer, 502).verdict() == await Site(answer, 408).verdict() == InDoubt()
    # A sentence under another name is not the provider's word for a failure.
    assert await Site({"message": said}).verdict() == InDoubt()


@pytest.mark.parametrize("status", ["RUNNING", "QUEUED", "", None])
async def test_an_error_message_alone_is_the_end_of_a_task(status: str | None) -> None:
    outcome = await Site(told_of(status=status, errorMessage="the model refused the image")).query()
    assert outcome.end is End.FAILED
    assert outcome.error == TaskError(code="", name="FAILED", message="the model refused the image")
    assert (await Site(told_of(status=status, errorCode="1501")).query()).end is End.FAILED
    assert called_back({"taskId": TASK, "status": status, "errorMessage": "no"}).end is End.FAILED
    # A submission that has an id has a task, whatever else it says; the first query tells its end.
    submission = await Site(told_of(status=status, errorMessage="the model refused the image")).submit()
    assert (submission.task_id, submission.report.end) == (TASK, End.FAILED)


@pytest.mark.parametrize("code", ["1002", "1003", "1010", "1011", "1000", "412", "1014"])
async def test_an_error_of_the_question_ends_no_task(code: str) -> None:
    assert (await Site(told_of(errorCode=code)).query()).end is None
    for answer in (
        told_of(errorCode=code, status=""),
        refused(errorCode=code),
        refused(errorCode=code, status="FAILED"),
    ):
        with pytest.raises(ProviderError) as error:
            await Site(answer).query()
        assert error.value.code == code
    for said in [*BUSY, *UNCLEAR]:
        assert (await Site(told_of(errorMessage=said)).query()).end is None, said
    with pytest.raises(ProviderError, match="BUSY"):
        await Site(refused(errorMessage="currently busy")).query()


async def test_what_was_made_is_not_lost_to_a_message() -> None:
    made = await Site(told_of(status="SUCCESS", results=[RESULT], errorCode="1015", errorMessage="success")).query()
    assert (made.end, len(made.results), made.error) == (End.SUCCEEDED, 1, None)
    assert (await Site(told_of(status="SUCCESS", results=[], errorMessage="success")).query()).end is End.SUCCEEDED
    assert (await Site(told_of(status="SUCCESS", results=[], errorCode="1501")).query()).end is End.FAILED


@pytest.mark.story
async def test_a_task_that_failed_is_not_paid_for_twice(house: House) -> None:
    task_id = await house.submit(Fault.FAILED, error_code="1504")
    await house.advance(7200)
    assert (await house.task(task_id)).state == "failed"
    assert house.simulator.count("submit") == 1


GENERAL = "工作流运行失败"


@pytest.mark.parametrize("code", ["1000", "805", ""])
def test_the_exception_is_told_rather_than_the_general_sentence(code: str) -> None:
    reason: JsonObject = {"exception_message": "out of memory", "node_name": "KSampler", "traceback": []}
    v2: JsonObject = {"status": "FAILED", "errorCode": code, "errorMessage": GENERAL, "failedReason": reason}
    v1: JsonObject = {"code": 805, "msg": V1_TEXT, "data": {"failedReason": reason}}
    assert [error.message for error in (called_back(v2).error, called_back(v1).error) if error] == ["out of memory"] * 2
    without: list[Json] = [{}, None, "", {"exception_message": ""}]
    for empty in without:
        error = called_back({**v2, "failedReason": empty}).error
        assert error is not None
        assert error.message == GENERAL


def test_a_reason_that_is_a_text_is_read_as_the_object_it_is() -> None:
    """The page's schema says string; what was seen were objects."""
    reason: JsonObject = {"exception_message": "out of memory"}
    text = msgspec.json.encode(reason).decode()
    v2: JsonObject = {"status": "FAILED", "errorMessage": GENERAL, "failedReason": text}
    v1: JsonObject = {"code": 805, "msg": V1_TEXT, "data": {"failedReason": text}}
    for data in (v2, v1):
        outcome = called_back(data)
        assert outcome.error is not None
        assert (outcome.error.message, outcome.extra["failedReason"]) == ("out of memory", reason)
    for junk in ("{oops", "{" * 100_000, "plain words"):
        error = called_back({**v2, "failedReason": junk}).error
        assert error is not None
        assert error.message == GENERAL


def test_a_seed_goes_out_as_it_was_given() -> None:
    nodes: list[Json] = [{"nodeId": "3", "fieldName": "seed", "fieldValue": 7}]
    for api in Api:
        assert submit_request(Kind.WORKFLOW, api, ID, {"nodeInfoList": nodes}, None).body["nodeInfoList"] == nodes


@pytest.mark.story
@pytest.mark.parametrize("api", ["v1", "v2"])
async def test_a_workflow_that_never_ran_names_the_remedy(tmp_path: Path, api: str) -> None:
    async with open_house(tmp_path, workflows=[Workflow("5", TEXT_TO_IMAGE.graph, run_by_hand=False)]) as house:
        answer = await house.api.post("/tasks", json={"kind": "workflow", "api": api, "target": "5"})
        await house.settle()
        task = await house.task(answer.json()["id"])
        assert task.error is not None
        assert (task.state, task.error.code) == ("rejected", "810")
        assert "run it once by hand" in task.error.message


def test_a_text_is_a_result() -> None:
    inner: JsonObject = {
        "status": "SUCCESS",
        "results": [{"url": None, "outputType": "txt", "nodeId": "4", "text": "a lighthouse"}],
    }
    results = called_back(inner).results
    assert results == [Result(url=None, type="txt", node_id="4", text="a lighthouse")]
    assert rules.has_content(results)


# ---------------------------------------------------------------- the rest


async def test_412_is_a_bad_key() -> None:
    with pytest.raises(ProviderError) as error:
        await Site({"code": 412, "msg": "TOKEN_INVALID"}).query()
    assert (error.value.name, error.value.retryable) == ("TOKEN_INVALID", False)
    assert error.value.meaning.startswith("the API key is missing or invalid")
    assert REMEDY in error.value.meaning


def test_no_time_of_the_provider_is_believed() -> None:
    """They are eight hours ahead and say no zone; we know by our own clock when we asked and were called."""
    detail: JsonObject = {"id": ID, "taskId": TASK, "webhookUrl": "http://x", "callbackStatus": "FAILED"}
    times: list[JsonObject] = [
        {"createTime": "2025-03-25T16:05:07", "updateTime": "2025-03-25T16:08:10"},
        {"createTime": "yesterday", "updateTime": 0},
        {},
    ]
    read = [wire.read_webhook_detail({**detail, **each}) for each in times]
    assert read[0] == read[1] == read[2]


async def test_fields_that_nobody_knows_change_nothing() -> None:
    new: JsonObject = {"parentTaskId": None, "taskUsageList": [], "somethingNew": {"deep": [1, {"er": None}]}}
    assert (await Site({**told_of(), **new}).submit()).task_id == TASK
    assert (await Site(refused(errorCode="1003", **new)).verdict()) == Later(10.0)
    created: JsonObject = {"code": 0, "msg": "", "data": {"taskId": TASK, **new}, **new}
    assert (await Site(created).submit(Kind.APP, Api.V1)).task_id == TASK
    ended = await Site(told_of(status="SUCCESS", results=[{**RESULT, **new}], **new)).query()
    assert (ended.end, ended.extra["somethingNew"]) == (End.SUCCEEDED, new["somethingNew"])
    account: JsonObject = {"code": 0, "msg": "", "data": {"remainCoins": 7, **new}, **new}
    assert (await Site(account).hub().account()).coins == "7"
