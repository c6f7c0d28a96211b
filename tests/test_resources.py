"""What the provider offers beside tasks: each endpoint is asked in its own form, its answer read or refused."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import msgspec
import pytest
from house import API_KEY, TLS
from targets import PUBLIC, Names, Network, Target

from receiver.egress.client import Egress
from receiver.model.records import JsonObject, Node, Price
from receiver.model.views import QueueView
from receiver.runninghub.client import FileToSend, open_http
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.nodes import Stored
from receiver.runninghub.resources import Resources

ID = "1904136902449209346"
BYTES = b"\x89PNG" + bytes(range(256)) * 400
STORED = {"type": "image", "download_url": "https://x.test/a.png?q-sign", "fileName": "openapi/a.png", "size": "3490"}
GRAPH = {
    "3": {
        "inputs": {"seed": 1, "model": ["4", 0]},
        "class_type": "KSampler",
        "_meta": {"title": "The sampler"},
    },
    "6": {"inputs": {"text": "a lighthouse"}, "class_type": "CLIPTextEncode"},
    "7": "no node",
}
ASKS: dict[str, Callable[[Resources], Awaitable[object]]] = {
    "workflow": lambda hub: hub.workflow(ID),
    "app": lambda hub: hub.app(ID),
    "styles": lambda hub: hub.styles(ID, 2),
    "status": lambda hub: hub.status(ID),
    "queue": lambda hub: hub.queue(),
    "price": lambda hub: hub.price("a/b", {"prompt": "x"}),
    "upload": lambda hub: hub.upload(a_file()),
    "upload_for_nodes": lambda hub: hub.upload_for_nodes(a_file()),
    "upload_lora": lambda hub: hub.upload_lora(a_file("style.safetensors"), hashlib.md5(BYTES).hexdigest()),
}
NOWHERE = Egress(tls=TLS, network=Network())
UPLOADS = ("upload", "upload_for_nodes")


def a_file(name: str = "one.png") -> FileToSend:
    async def opened() -> AsyncIterator[bytes]:
        for start in range(0, len(BYTES), 1000):
            yield BYTES[start : start + 1000]

    return FileToSend(name=name, size=len(BYTES), open=opened)


class Provider:
    """Answers with what it was given, in turn, the last one for ever; remembers what it was asked."""

    def __init__(self, *answers: object) -> None:
        self.answers = list(answers)
        self.asked: list[httpx.Request] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx.Response):
            return httpx.Response(answer.status_code, content=answer.content, headers=answer.headers)
        return httpx.Response(200, content=answer if isinstance(answer, bytes) else msgspec.json.encode(answer))

    async def ask(self, name: str, key: str | None = API_KEY) -> object:
        async with open_http(httpx.MockTransport(self), TLS) as http:
            return await ASKS[name](Resources(http, "http://provider.test", key, NOWHERE, read_wait=0.0))

    @property
    def sent(self) -> JsonObject:
        body: JsonObject = msgspec.json.decode(self.asked[-1].content)
        return body


def fine(data: object, **also: object) -> dict[str, object]:
    return {"code": 0, "msg": "", "data": data, **also}


async def refusal(name: str, answer: object) -> ProviderError:
    with pytest.raises(ProviderError) as refused:
        await Provider(answer).ask(name)
    return refused.value


# ---------------------------------------------------------------- workflows, apps, styles


PROMPT = msgspec.json.encode(GRAPH).decode()
PROMPTS: dict[str, object] = {
    "text": PROMPT,
    "object": GRAPH,
    "NaN in it": PROMPT.replace('"no node"', "[NaN]"),
    "wrapped, with a BOM": f'\ufeff{{"prompt": {PROMPT}}}',
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS.keys())
async def test_a_workflows_fields_are_read_out_of_its_graph_and_links_are_none(prompt: object) -> None:
    provider = Provider({"code": 0, "msg": "SUCCESS", "data": {"prompt": prompt}})
    assert await provider.ask("workflow") == [
        Node(node="3", field="seed", value=1, type="KSampler", title="The sampler"),
        Node(node="6", field="text", value="a lighthouse", type="CLIPTextEncode", title="CLIPTextEncode"),
    ]
    assert (provider.asked[0].method, provider.asked[0].url.path) == ("POST", "/api/openapi/getJsonApiFormat")
    assert provider.sent == {"apiKey": API_KEY, "workflowId": ID}


async def test_an_apps_fields_come_with_their_choices_and_the_key_goes_into_the_address() -> None:
    row = {"nodeId": "3", "fieldName": "image", "fieldValue": "a.png", "fieldType": "IMAGE", "descriptionEn": "face"}
    lists = ['["1k","2k"]', '[["1k", "2k"], {"default": "1k"}]', '[{"name": "small", "index": "1k"}, {"name": "2k"}]']
    rows = [row, *({**row, "nodeId": 7, "fieldData": text} for text in lists), {**row, "fieldData": "not JSON"}, 1]
    provider = Provider(fine({"webappName": "An app", "nodeInfoList": rows, "curl": "curl"}))
    app = await provider.ask("app")
    assert msgspec.to_builtins(app)["name"] == "An app"
    first, *others = msgspec.to_builtins(app)["nodes"]
    face = {"node": "3", "field": "image", "value": "a.png", "type": "IMAGE", "title": "face", "options": []}
    face |= {"name": "", "description": "face"}
    assert first == face
    assert [each["options"] for each in others] == [["1k", "2k"]] * 3 + [[]]
    assert others[0]["node"] == "7"
    request = provider.asked[0]
    assert (request.method, request.url.path) == ("GET", "/api/webapp/apiCallDemo")
    assert dict(request.url.params) == {"apiKey": API_KEY, "webappId": ID}
    assert request.headers["authorization"] == f"Bearer {API_KEY}"


async def test_styles_are_asked_for_without_any_key() -> None:
    provider = Provider(fine([{"id": 1, "modelLoar1Weight": "0.8", "modelLoar2FileName": None}, "no style"]))
    assert await provider.ask("styles") == [{"id": 1, "modelLoar1Weight": "0.8", "modelLoar2FileName": None}]
    assert provider.asked[0].url.path == "/api/fast/creation/model/params"
    assert provider.sent == {"type": 2, "webappId": ID}
    assert "authorization" not in provider.asked[0].headers


# ---------------------------------------------------------------- status, queue, price


async def test_a_status_is_a_bare_word_and_an_unknown_task_an_error() -> None:
    provider = Provider(fine("RUNNING"))
    assert await provider.ask("status") == "RUNNING"
    assert provider.asked[0].url.path == "/task/openapi/status"
    assert provider.sent == {"apiKey": API_KEY, "taskId": ID}
    assert (await refusal("status", {"code": 807, "msg": "APIKEY_TASK_NOT_FOUND", "data": None})).code == "807"


async def test_the_queues_counts_are_read_whether_texts_or_numbers() -> None:
    said = {"apiKeyType": "NORMAL", "concurrentLimit": 2, "runningCount": "1", "queuedCount": "0", "other": {}}
    provider = Provider({"code": 0, "message": "success", "data": said})
    assert await provider.ask("queue") == QueueView(limit=2, running=1, queued=0, total=None)
    assert (provider.asked[0].method, provider.asked[0].url.path) == ("GET", "/openapi/v2/queue/status")


@pytest.mark.parametrize("wrapped", [True, False])
async def test_a_price_is_asked_with_the_models_own_body_and_comes_bare_or_wrapped(wrapped: bool) -> None:
    said = {"estimatedPrice": 0.35, "currency": "CNY", "priceText": "¥0.35", "isFreeThisCall": False}
    provider = Provider(fine(said) if wrapped else said)
    assert await provider.ask("price") == Price(amount="0.35", currency="CNY", text="¥0.35", free=False)
    assert provider.asked[0].url.path == "/openapi/v2/price-preview/a/b"
    assert provider.sent == {"prompt": "x"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"errorCode": "1014", "errorMessage": "no", "taskId": "", "status": ""}, "1014"),
        ({"code": 412, "msg": "TOKEN_INVALID"}, "412"),
        ({"code": 0, "data": None}, "unreadable"),
    ],
)
async def test_a_price_that_is_refused_is_told_by_its_code(answer: object, code: str) -> None:
    assert (await refusal("price", answer)).code == code


# ---------------------------------------------------------------- uploads


async def test_an_upload_is_one_part_of_a_form_with_a_length_and_its_size_may_be_a_text() -> None:
    provider = Provider({"code": 0, "message": "success", "data": STORED})
    expected = Stored(type="image", url="https://x.test/a.png?q-sign", file_name="openapi/a.png")
    assert await provider.ask("upload") == expected
    request = provider.asked[0]
    assert request.url.path == "/openapi/v2/media/upload/binary"
    assert int(request.headers["content-length"]) == len(request.content)
    assert "transfer-encoding" not in request.headers
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    before, part, after = request.content.split(b"--" + boundary)
    assert (before, after) == (b"", b"--\r\n")
    head, _, content = part.partition(b"\r\n\r\n")
    assert b'form-data; name="file"; filename="one.png"' in head
    assert content == BYTES + b"\r\n"
    assert API_KEY.encode() not in request.content


async def test_a_file_name_cannot_break_out_of_its_form() -> None:
    provider = Provider({"code": 0, "message": "success", "data": STORED})
    async with open_http(httpx.MockTransport(provider), TLS) as http:
        hub = Resources(http, "http://provider.test", API_KEY, NOWHERE)
        await hub.upload(a_file('a"\r\nX: y.png'))
    assert b'filename="a%22%0D%0AX: y.png"' in provider.asked[0].content


async def test_an_old_upload_has_the_key_in_its_form() -> None:
    provider = Provider(fine({"fileName": "api/a.png", "fileType": "input"}))
    assert await provider.ask("upload_for_nodes") == "api/a.png"
    assert provider.asked[0].url.path == "/task/openapi/upload"
    content = provider.asked[0].content
    assert f'name="apiKey"\r\n\r\n{API_KEY}\r\n'.encode() in content
    assert b'name="fileType"\r\n\r\ninput\r\n' in content


async def test_a_lora_is_put_at_the_address_it_is_given_and_the_key_is_not_shown_there() -> None:
    ticket = fine({"fileName": "api-lora-cn/x.safetensors", "url": "http://provider.test/x?sign=1"})
    provider = Provider(ticket, b"")
    assert await provider.ask("upload_lora") == "api-lora-cn/x.safetensors"
    asked, put = provider.asked
    assert asked.url.path == "/api/openapi/getLoraUploadUrl"
    assert msgspec.json.decode(asked.content) == {
        "apiKey": API_KEY,
        "loraName": "style.safetensors",
        "md5Hex": hashlib.md5(BYTES).hexdigest(),
    }
    assert (put.method, str(put.url), put.content) == ("PUT", "http://provider.test/x?sign=1", BYTES)
    assert put.headers["content-type"] == "application/octet-stream"
    assert "authorization" not in put.headers


async def test_a_lora_that_the_provider_has_is_not_sent_again() -> None:
    provider = Provider(fine({"fileName": "api-lora-cn/x.safetensors", "url": None}))
    assert await provider.ask("upload_lora") == "api-lora-cn/x.safetensors"
    assert len(provider.asked) == 1


async def test_a_lora_that_its_store_refuses_is_an_error() -> None:
    ticket = fine({"fileName": "x", "url": "http://provider.test/x"})
    with pytest.raises(ProviderError) as refused:
        await Provider(ticket, httpx.Response(403, content=b"<Error/>")).ask("upload_lora")
    assert refused.value.code == "http_403"


async def lora_put(url: str, egress: Egress, attempts: int = 1) -> object:
    """What comes of a LoRA whose bytes the provider wants at `url`."""
    provider = Provider(fine({"fileName": "x.safetensors", "url": url}))
    async with open_http(httpx.MockTransport(provider), TLS) as http:
        try:
            return await ASKS["upload_lora"](
                Resources(http, "http://provider.test", API_KEY, egress, attempts=attempts, read_wait=0.0)
            )
        finally:
            await egress.aclose()
            assert len(provider.asked) == 1


async def test_a_lora_goes_to_a_store_of_the_public_internet_without_the_key(target: Target) -> None:
    told = Names()
    told.put("bucket.example.com", [PUBLIC])
    target.give("/x")
    egress = Egress(tls=TLS, resolve=told, network=Network({PUBLIC: target.port}))
    assert await lora_put("http://bucket.example.com/x?sign=1", egress) == "x.safetensors"
    (put,) = target.requests
    assert (put.line, put.body) == ("PUT /x?sign=1 HTTP/1.1", BYTES)
    assert put.headers["content-type"] == "application/octet-stream"
    assert "authorization" not in put.headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "10.0.0.7", "[::1]", "169.254.169.254", "inside"])
async def test_a_lora_goes_nowhere_near_whatever_place_the_provider_names(host: str, target: Target) -> None:
    with pytest.raises(ProviderError) as refused:
        await lora_put(f"http://{host}:{target.port}/x", Egress(tls=TLS), attempts=3)
    assert (refused.value.code, refused.value.retryable) == ("unsafe", False)
    assert f"nothing was sent: http://{host}:{target.port} is not a public address" in str(refused.value)
    assert target.requests == []


async def test_a_store_that_cannot_be_reached_is_tried_again_and_its_refusal_is_told(target: Target) -> None:
    told = Names()
    told.put("bucket.example.com", [PUBLIC])
    network = Network()
    with pytest.raises(ProviderError) as failed:
        await lora_put("http://bucket.example.com/x", Egress(tls=TLS, resolve=told, network=network), attempts=3)
    assert (failed.value.code, len(network.called)) == ("not_sent", 3)
    target.give("/x", status="403 Forbidden")
    with pytest.raises(ProviderError) as refused:
        await lora_put(
            "http://bucket.example.com/x", Egress(tls=TLS, resolve=told, network=Network({PUBLIC: target.port}))
        )
    assert refused.value.code == "http_403"


@pytest.mark.parametrize("name", UPLOADS)
async def test_an_upload_is_sent_again_whole_while_no_connection_was_made(name: str) -> None:
    provider = Provider(httpx.ConnectError("no"), httpx.ConnectTimeout("no"), fine(STORED))
    await provider.ask(name)
    bodies = {request.content.partition(b"\r\n\r\n\x89")[2].partition(b"\r\n--")[0] for request in provider.asked}
    assert len(provider.asked) == 3
    assert bodies == {BYTES.removeprefix(b"\x89").partition(b"\r\n--")[0]}


@pytest.mark.parametrize("name", UPLOADS)
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (httpx.ReadTimeout("no"), "unanswered"),
        (httpx.Response(502, content=b"<html>"), "http_502"),
        ({"code": 808, "msg": "APIKEY_UPLOAD_FAILED", "data": None}, "808"),
    ],
)
async def test_an_upload_that_was_sent_is_not_sent_again(name: str, answer: object, code: str) -> None:
    provider = Provider(answer)
    with pytest.raises(ProviderError) as refused:
        await provider.ask(name)
    assert (refused.value.code, len(provider.asked)) == (code, 1)


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("name", [name for name in ASKS if name not in UPLOADS])
async def test_what_changes_nothing_is_asked_again(name: str) -> None:
    provider = Provider(httpx.ReadTimeout("no"))
    with pytest.raises(ProviderError) as refused:
        await provider.ask(name)
    assert (refused.value.code, len(provider.asked)) == ("unanswered", 3)


@pytest.mark.parametrize("name", ASKS)
async def test_without_a_key_nothing_is_asked(name: str) -> None:
    provider = Provider(fine([]))
    if name == "styles":
        assert await provider.ask(name, key=None) == []
        return
    with pytest.raises(ProviderError) as refused:
        await provider.ask(name, key=None)
    assert (refused.value.code, provider.asked) == ("no_key", [])


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ({"code": 802, "msg": "APIKEY_UNAUTHORIZED", "data": None}, "802", "APIKEY_UNAUTHORIZED"),
        ({"code": 401, "message": "ApiKey verification failed", "data": None}, "401", "ApiKey verification failed"),
        ({"code": 0, "msg": "", "data": None}, "unreadable", ""),
        ({"code": 0, "msg": "", "data": 1}, "unreadable", ""),
        ({"code": 0, "msg": "", "data": {"prompt": "[]", "nodeInfoList": 1, "url": "x"}}, "unreadable", ""),
        ({"data": {}}, "unreadable", ""),
        (b"[]", "unreadable", ""),
        (b"\xff", "unreadable", ""),
        (httpx.Response(429, headers={"retry-after": "7"}, content=b"{}"), "http_429", ""),
    ],
)
async def test_whatever_is_answered_is_read_or_refused_in_one_way(
    name: str, answer: object, code: str, said: str
) -> None:
    if name == "queue" and isinstance(answer, dict) and isinstance(answer.get("data"), dict) and "code" in answer:
        return  # a queue of which nothing is told is a queue
    error = await refusal(name, answer)
    assert error.code == code
    assert said in str(error)
    assert API_KEY not in str(error)
