"""The simulator takes uploads and gives them back, and keeps an account that falls as tasks end."""

import hashlib
import json
from typing import Any

import httpx
import pytest
from provider import KEY, Provider

from receiver.simulator import Fault, Options, create_app
from receiver.simulator.control import state_of
from receiver.simulator.multipart import Form, read_form
from receiver.simulator.workflows import ANIMATED, PICTURE_APP, TEXT_TO_IMAGE

pytestmark = pytest.mark.story

Document = dict[str, Any]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20 + b"\r\n--not-the-boundary\r\n"
SHA256 = hashlib.sha256(PNG).hexdigest()
MD5 = hashlib.md5(PNG).hexdigest()
UPLOAD = "/openapi/v2/media/upload/binary"


async def upload(provider: Provider, name: str = "cat.png", content: bytes = PNG, **headers: str) -> Document:
    response = await provider.http.post(UPLOAD, files={"file": (name, content)}, headers={**KEY, **headers})
    assert response.status_code == 200
    document: Document = response.json()
    return document


async def old_upload(provider: Provider, name: str = "cat.png", content: bytes = PNG, key: str = "key") -> Document:
    form = {"apiKey": key, "fileType": "input"}
    response = await provider.http.post("/task/openapi/upload", data=form, files={"file": (name, content)})
    document: Document = response.json()
    return document


async def account(provider: Provider, **body: object) -> Document:
    response = await provider.http.post("/uc/openapi/accountStatus", json=body or {"apikey": "key"}, headers=KEY)
    document: Document = response.json()
    return document


async def create(provider: Provider, workflow_id: str = TEXT_TO_IMAGE.id, **body: object) -> Document:
    return await provider.v1("create", workflowId=workflow_id, accessPassword=ANIMATED.password, **body)


@pytest.fixture
def provider() -> Provider:
    return Provider()


# Uploads


async def test_an_upload_is_named_by_the_hash_of_its_bytes(provider: Provider) -> None:
    answer = await upload(provider)
    assert list(answer) == ["code", "message", "data"]
    assert (answer["code"], answer["message"]) == (0, "success")
    data = answer["data"]
    assert list(data) == ["type", "download_url", "fileName", "size"]
    assert (data["type"], data["size"]) == ("image", str(len(PNG)))
    assert data["fileName"] == f"openapi/{SHA256}.png"
    assert data["download_url"].startswith(f"http://simulator.test/files/input/openapi/{SHA256}.png?q-sign-")
    assert (await upload(provider, "another.png"))["data"]["fileName"] == data["fileName"]
    assert len(provider.sim.uploads.by_name) == 1


async def test_an_upload_can_be_fetched_for_a_day(provider: Provider) -> None:
    url = (await upload(provider))["data"]["download_url"]
    whole = await provider.http.get(url)
    assert (whole.content, whole.headers["content-type"]) == (PNG, "image/png")
    part = await provider.http.get(url, headers={"Range": "bytes=3-9"})
    assert (part.status_code, part.content) == (206, PNG[3:10])
    await provider.pass_time(86399)
    assert (await provider.http.get(url)).status_code == 200
    await provider.pass_time(1)
    assert (await provider.http.get(url)).status_code == 403


async def test_a_link_cannot_be_prolonged_or_pointed_elsewhere(provider: Provider) -> None:
    url = httpx.URL((await upload(provider))["data"]["download_url"])
    for changed in (
        url.copy_set_param("q-sign-time", "99999999999"),
        url.copy_remove_param("q-signature"),
        url.copy_with(path="/files/input/openapi/other.png"),
    ):
        assert (await provider.http.get(changed)).status_code == 403


async def test_the_same_bytes_again_live_a_day_longer_and_then_they_are_let_go(provider: Provider) -> None:
    first = (await upload(provider))["data"]["download_url"]
    await provider.pass_time(80000)
    second = (await upload(provider))["data"]["download_url"]
    await provider.pass_time(80000)
    assert (await provider.http.get(first)).status_code == 403
    assert (await provider.http.get(second)).content == PNG
    await provider.pass_time(10000)
    await upload(provider, "other.png", b"other bytes")
    assert [each.size for each in provider.sim.uploads.by_name.values()] == [11]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "image"),
        ("a.jpeg", "image"),
        ("a.webp", "image"),
        ("a.zip", "zip"),
        ("a.mp3", "audio"),
        ("a.wav", "audio"),
        ("a.flac", "audio"),
        ("a.mp4", "video"),
        ("a.avi", "video"),
        ("a.mov", "video"),
        ("a.mkv", "video"),
    ],
)
async def test_an_upload_has_a_type(provider: Provider, name: str, kind: str) -> None:
    assert (await upload(provider, name))["data"]["type"] == kind


async def test_an_upload_is_refused_in_its_own_envelope() -> None:
    provider = Provider(api_key="key", upload_limit=10)
    bad = await upload(provider, Authorization="Bearer other")
    assert (bad["code"], bad["data"]) == (401, None)
    assert bad["message"].startswith("ApiKey verification failed: ")
    assert await upload(provider) == {"code": 1008, "message": "file too large | 文件过大", "data": None}
    assert (await upload(provider, "a.exe", b"x"))["code"] == 1007
    assert (await provider.http.post(UPLOAD, json={}, headers=KEY)).json()["code"] == 1007
    assert (await provider.http.post(UPLOAD, files={"other": b"x"}, headers=KEY)).json()["code"] == 1007
    assert (await provider.http.post(UPLOAD, files={"file": ("a.png", b"x")})).json()["code"] == 412
    assert (await upload(provider, content=b"0123456789"))["code"] == 0


async def test_the_body_of_an_upload_is_not_noted(provider: Provider) -> None:
    await upload(provider)
    [request] = provider.sim.requests
    assert (request.route, request.body) == ("upload", b"")


async def test_an_upload_can_meet_an_outage(provider: Provider) -> None:
    provider.sim.outage("upload", "502", times=1)
    response = await provider.http.post(UPLOAD, files={"file": ("a.png", PNG)}, headers=KEY)
    assert response.status_code == 502
    assert (await upload(provider))["code"] == 0


async def test_the_old_upload_takes_the_key_as_a_field_and_names_a_zip_barely(provider: Provider) -> None:
    answer = await old_upload(provider)
    assert answer == {"code": 0, "msg": "success", "data": {"fileName": f"api/{SHA256}.png", "fileType": "input"}}
    assert (await old_upload(provider, "a.zip"))["data"]["fileName"] == SHA256


async def test_the_old_upload_is_refused_by_v1_codes() -> None:
    provider = Provider(api_key="key", upload_limit=10)
    assert (await old_upload(provider))["code"] == 809
    assert (await old_upload(provider, key="other"))["code"] == 802
    assert (await old_upload(provider, key=" "))["code"] == 301
    assert (await old_upload(provider, content=b""))["code"] == 808
    assert (await old_upload(provider, "a.exe", b"x"))["code"] == 808
    assert (await provider.http.post("/task/openapi/upload", json={"apiKey": "key"})).json()["code"] == 808


# LoRA


async def lora_url(provider: Provider, **body: object) -> Document:
    wanted = {"apiKey": "key", "loraName": "mine", "md5Hex": MD5, **body}
    document: Document = (await provider.http.post("/api/openapi/getLoraUploadUrl", json=wanted)).json()
    return document


async def test_a_lora_is_put_where_it_is_told_to(provider: Provider) -> None:
    data = (await lora_url(provider))["data"]
    assert data["fileName"] == f"api-lora-cn/{MD5}.safetensors"
    put = await provider.http.put(data["url"], content=PNG, headers={"Content-Type": "application/octet-stream"})
    assert put.status_code == 200
    assert provider.sim.uploads.loras[MD5].size == len(PNG)


async def test_a_lora_that_is_there_needs_no_url(provider: Provider) -> None:
    await provider.http.put((await lora_url(provider))["data"]["url"], content=PNG)
    assert (await lora_url(provider))["data"] == {"fileName": f"api-lora-cn/{MD5}.safetensors"}


async def test_a_lora_of_other_bytes_is_refused_and_so_is_a_late_one(provider: Provider) -> None:
    url = (await lora_url(provider))["data"]["url"]
    assert (await provider.http.put(url, content=b"other")).status_code == 400
    await provider.pass_time(3600)
    assert (await provider.http.put(url, content=PNG)).status_code == 403
    assert (await provider.http.put(url.partition("?")[0], content=PNG)).status_code == 403
    assert (await lora_url(provider))["data"]["url"] != url


async def test_an_md5_has_32_digits(provider: Provider) -> None:
    assert (await lora_url(provider, md5Hex="abc"))["code"] == 301
    assert (await lora_url(provider, loraName=""))["code"] == 301


# Forms


FORM = "multipart/form-data; boundary=B"


def _form(content: bytes) -> bytes:
    return (
        b'preamble\r\n--B\r\nContent-Disposition: form-data; name="apiKey"\r\n\r\nsecret\r\n'
        b'--B\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xa4.png"\r\n'
        b"Content-Type: image/png\r\n\r\n" + content + b"\r\n--B--\r\nepilogue"
    )


@pytest.mark.parametrize("content", [b"", b"\r\n", b"\r\n--", b"\r\n--A\r\n--\r\r\n", PNG])
def test_a_form_keeps_every_byte_of_a_file(content: bytes) -> None:
    assert read_form(FORM, _form(content)) == Form({"apiKey": "secret"}, {"file": ("ä.png", content)})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--B",
        b"--B\r\n",
        b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\ny',
        b"--B\r\nContent-Disposition: form-data\r\n\r\ny\r\n--B--",
        b"--B\r\n" + b"x" * 20_000,
    ],
)
def test_what_is_no_form_is_told_apart(body: bytes) -> None:
    assert read_form(FORM, body) is None


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data"])
def test_a_form_needs_a_boundary(kind: str) -> None:
    assert read_form(kind, _form(PNG)) is None


# The account


async def test_the_account_is_told_in_texts() -> None:
    provider = Provider(coins=99999, money=999, currency="USD")
    answer = await account(provider)
    assert answer == {
        "code": 0,
        "msg": "success",
        "data": {
            "remainCoins": "99999",
            "currentTaskCounts": "0",
            "remainMoney": "999.00",
            "currency": "USD",
            "apiType": "SHARED",
        },
    }


NO_KEY = {"code": 1601, "msg": "param apiKey is required", "data": None}


@pytest.mark.parametrize("body", [{"apikey": ""}, {"apikey": 7}, {"apiKey": " "}, {"APIKEY": "key"}, {"x": 1}])
async def test_the_account_asks_for_its_key_in_the_body(provider: Provider, body: Document) -> None:
    assert await account(provider, **body) == NO_KEY


async def test_the_account_takes_the_key_by_the_name_in_its_refusal_too_unless_told_otherwise(
    provider: Provider,
) -> None:
    for body in ({"apikey": "key"}, {"apiKey": "key"}, {"apikey": "", "apiKey": "key"}):
        assert (await account(provider, **body))["code"] == 0
    strict = Provider(apikey_only=True)
    assert (await account(strict, apikey="key"))["code"] == 0
    assert await account(strict, apiKey="key") == NO_KEY


async def test_the_account_of_a_wrong_key_is_not_shown() -> None:
    assert (await account(Provider(api_key="another")))["code"] == 802


async def test_the_account_counts_what_is_under_way(provider: Provider) -> None:
    for _ in range(2):
        await provider.submit()
    assert (await account(provider))["data"]["currentTaskCounts"] == "2"
    await provider.pass_time(5)
    assert (await account(provider))["data"]["currentTaskCounts"] == "0"


async def test_machine_time_costs_coins_and_models_cost_money() -> None:
    provider = Provider(coins=100, money=10, coins_per_second=1, model_price=0.25)
    await provider.submit()
    await create(provider, instanceType="plus")
    assert (provider.sim.account.coins, provider.sim.account.money) == (100, 10)
    await provider.pass_time(5)
    [_, workflow] = provider.sim.tasks.values()
    assert workflow.seconds in (4, 5, 6)
    assert provider.sim.account.coins == 100 - 2 * workflow.seconds
    assert provider.sim.account.money == 9.75


async def test_a_third_party_s_model_in_a_workflow_costs_money_too() -> None:
    provider = Provider(coins=100, money=10)
    await create(provider, ANIMATED.id)
    await provider.pass_time(5)
    assert (provider.sim.account.coins, provider.sim.account.money) == (99, 9.86)


async def test_what_fails_or_is_cancelled_costs_nothing() -> None:
    provider = Provider(coins=100, money=10)
    provider.sim.plan_next(Fault.FAILED)
    await provider.submit()
    task_id = (await create(provider))["data"]["taskId"]
    await provider.v1("cancel", taskId=task_id)
    await provider.pass_time(5)
    assert (provider.sim.account.coins, provider.sim.account.money) == (100, 10)


async def test_an_empty_account_starts_nothing() -> None:
    provider = Provider(coins=0, money=0.04)
    answer = await provider.submit()
    assert (answer["taskId"], answer["errorCode"]) == ("", "416")
    assert answer["errorMessage"] == "TASK_CREATE_FAILED_BY_NOT_ENOUGH_WALLET"
    answer = await create(provider)
    assert (answer["code"], answer["msg"]) == (414, "TASK_CREATE_FAILED_BY_NOT_ENOUGH_POWER_VALUE")
    answer = await create(Provider(money=0), ANIMATED.id)
    assert answer["code"] == 416
    response = await provider.http.post(
        f"/openapi/v2/run/ai-app/{PICTURE_APP.id}", json={"nodeInfoList": []}, headers=KEY
    )
    assert response.json()["errorCode"] == "414"
    assert provider.sim.tasks == {}


@pytest.mark.parametrize("options", [{"currency": "EUR"}, {"api_type": "FREE"}])
def test_an_account_that_cannot_be_is_refused(options: Document) -> None:
    with pytest.raises(ValueError, match="there is no"):
        Provider(**options)


async def test_the_queue_is_told_in_a_number_and_texts() -> None:
    provider = Provider(max_in_flight=1, api_type="EXCLUSIVE")
    await create(provider)
    await provider.pass_time(1)
    await create(provider, usePersonalQueue=True)
    answer = (await provider.http.get("/openapi/v2/queue/status", headers=KEY)).json()
    assert list(answer) == ["code", "message", "data"]
    assert answer["data"] == {
        "apiKeyType": "EXCLUSIVE",
        "concurrentLimit": 1,
        "runningCount": "1",
        "queuedCount": "1",
        "totalCurrentTasks": "2",
    }


@pytest.mark.parametrize(("api_type", "limit"), [("NORMAL", 2), ("SHARED", 100), ("EXCLUSIVE", 1)])
async def test_a_queue_without_a_limit_says_the_usual_one(api_type: str, limit: int) -> None:
    answer = (await Provider(api_type=api_type).http.get("/openapi/v2/queue/status", headers=KEY)).json()
    assert answer["data"]["concurrentLimit"] == limit


@pytest.mark.parametrize("path", ["/openapi/v2/queue/status", "/openapi/v2/api-key/list"])
async def test_queue_and_keys_ask_for_the_key(path: str) -> None:
    provider = Provider(api_key="another")
    assert (await provider.http.get(path)).json() == {"code": 412, "msg": "TOKEN_INVALID"}
    assert (await provider.http.get(path, headers=KEY)).json()["code"] == 401


async def test_keys_are_shown_masked(provider: Provider) -> None:
    [key] = (await provider.http.get("/openapi/v2/api-key/list", headers=KEY)).json()["data"]
    assert (set(key["key"]), key["status"]) == ({"*"}, 1)


@pytest.mark.parametrize(("currency", "sign"), [("CNY", "¥"), ("USD", "$")])
async def test_a_preview_tells_the_price_that_is_then_paid(currency: str, sign: str) -> None:
    provider = Provider(currency=currency, money=100)
    path, body = "maker/text-to-video", {"prompt": "a cat", "webhookUrl": "https://us.test/hook"}
    preview = (await provider.http.post(f"/openapi/v2/price-preview/{path}", json=body, headers=KEY)).json()
    price = preview["estimatedPrice"]
    assert (preview["errorCode"], preview["currency"], preview["isFreeThisCall"]) == ("", currency, False)
    assert preview["priceText"] == f"{sign}{price:.2f}"
    assert provider.sim.tasks == {}
    await provider.http.post(f"/openapi/v2/{path}", json=body, headers=KEY)
    await provider.pass_time(5)
    assert provider.sim.account.money == round(100 - price, 2)


async def test_a_preview_of_junk_is_refused(provider: Provider) -> None:
    path = "/openapi/v2/price-preview/maker/text-to-video"
    assert (await provider.http.post(path, content=b"junk", headers=KEY)).json()["errorCode"] == "1007"
    assert (await provider.http.post(path, json={})).json()["code"] == 412
    assert provider.sim.count("price") == 2


# Watching


async def test_the_state_shows_account_and_uploads() -> None:
    provider = Provider(coins=50, money=5)
    await upload(provider)
    await lora_url(provider)
    await create(provider)
    state = json.loads(json.dumps(state_of(provider.sim)))
    assert state["account"] == {"remainCoins": "50", "remainMoney": "5.00", "currency": "CNY", "apiType": "SHARED"}
    [kept] = state["uploads"]
    assert (kept["fileName"], kept["type"], kept["size"]) == (f"openapi/{SHA256}.png", "image", len(PNG))
    assert state["loras"] == [{"loraName": "mine", "md5": MD5, "size": None}]
    assert [task["kind"] for task in state["tasks"]] == ["workflow"]
    assert (state["requests"]["upload"], state["requests"]["create"], state["requests"]["price"]) == (1, 1, 0)


async def test_an_error_code_can_be_asked_for_from_outside() -> None:
    app = create_app(Options())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://simulator.test") as http:
        told = await http.post("/simulator/outage", json={"route": "account", "kind": "code", "code": "806"})
        assert told.status_code == 200
        answer = await http.post("/uc/openapi/accountStatus", json={"apikey": "key"})
        assert answer.json() == {"code": 806, "msg": "APIKEY_USER_NOT_FOUND", "data": None}
        wrong = await http.post("/simulator/outage", json={"route": "account", "kind": "code", "code": "x"})
        assert wrong.status_code == 400


def test_options_reach_the_simulator() -> None:
    options = Options(currency="USD", coins=7, money=8, api_type="NORMAL", upload_limit=9, base_url="https://x.test")
    simulator = create_app(options).state.simulator
    assert simulator.account.shown() == {
        "remainCoins": "7",
        "remainMoney": "8.00",
        "currency": "USD",
        "apiType": "NORMAL",
    }
    assert simulator.uploads.limit == 9
