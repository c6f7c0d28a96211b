"""The published third-party client, unmodified, against the simulator on a real port.

Where the two disagree the documented facts decide. Each such place has a test of its own, whose comment says who is
right; so far it was the simulator each time.
"""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import pytest_asyncio
import uvicorn
from runninghub_sdk import RunningHubClient, TaskStatus
from runninghub_sdk.exceptions import RunningHubError
from runninghub_sdk.typedefs import NodeInput, TaskOutput, V2QueryResult
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.simulator import Fault, Options, Simulator, create_app
from receiver.simulator.workflows import PICTURE_APP, TEXT_TO_IMAGE

T = TypeVar("T")

pytestmark = [pytest.mark.story, pytest.mark.asyncio(loop_scope="module")]

API_KEY = "0123456789abcdef0123456789abcdef"
MODEL = "rhart-video-v3.1-pro-official/reference-to-video"
POLL = 0.01
NODES = [NodeInput("6", "text", "a harbour"), {"nodeId": "3", "fieldName": "seed", "fieldValue": 7}]
LORA = b"weights" * 100


@dataclass
class World:
    """The client, the simulator it talks to, and what arrived at the webhook URL. Tasks end when a test says so."""

    client: RunningHubClient
    simulator: Simulator
    hook: str
    arrived: "asyncio.Queue[dict[str, Any]]"

    async def __call__(self, method: Callable[..., T], *given: Any, **named: Any) -> T:
        """A method of the client, which blocks, on a thread of its own."""
        return await asyncio.to_thread(method, *given, **named)

    async def wait(self, task_id: str) -> list[TaskOutput]:
        """The client's own waiting; the task ends once it has been asked about."""
        return await self(self.client.wait_for_completion, task_id, POLL, 5.0, self._ending(task_id))

    async def wait_v2(self, task_id: str) -> V2QueryResult:
        return await self(self.client.wait_for_query_v2_completion, task_id, POLL, 5.0, self._ending(task_id))

    def _ending(self, task_id: str) -> Callable[[TaskStatus], None]:
        loop = asyncio.get_running_loop()

        def told(status: TaskStatus) -> None:
            if status in (TaskStatus.QUEUED, TaskStatus.RUNNING):
                loop.call_soon_threadsafe(self.simulator.finish, task_id)

        return told

    async def callback(self) -> dict[str, Any]:
        return await asyncio.wait_for(self.arrived.get(), 5)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world() -> AsyncIterator[World]:
    arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def take(request: Request) -> Response:
        await arrived.put(await request.json())
        return JSONResponse({"ok": True})

    # Only of a socket that says it speaks TCP does asyncio ask not to hold answers back.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    port: int = listener.getsockname()[1]
    app = create_app(Options(port=port, api_key=API_KEY, task_seconds=3600))
    app.router.routes.insert(0, Route("/hook", take, methods=["POST"]))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.wait({serving}, timeout=0.005)
    with RunningHubClient(API_KEY, base_url=f"http://127.0.0.1:{port}") as client:
        yield World(client, app.state.simulator, f"http://127.0.0.1:{port}/hook", arrived)
        await client.aclose()
    server.should_exit = True
    await serving


# Running and waiting


async def test_a_workflow_is_run_awaited_and_downloaded(world: World, tmp_path: Path) -> None:
    client = world.client
    created = await world(client.run, TEXT_TO_IMAGE.id, NODES, instance_type="plus")
    assert created.task_status in (TaskStatus.QUEUED, TaskStatus.RUNNING)
    assert json.loads(created.prompt_tips)["result"] is True
    outputs = await world.wait(created.task_id)
    [output] = outputs
    assert (output.file_type, output.node_id) == ("png", "9")
    assert output.consume_coins.isdecimal()
    [file] = await world(client.download_outputs, outputs, tmp_path)
    assert file.stat().st_size == 65536
    graph = world.simulator.tasks[created.task_id].order.graph or {}
    assert (graph["6"]["inputs"]["text"], graph["3"]["inputs"]["seed"]) == ("a harbour", 7)


async def test_an_app_tells_its_nodes_and_is_run_with_them(world: World) -> None:
    client = world.client
    demo = await world(client.get_ai_app_api_demo, PICTURE_APP.id)
    assert (demo.webapp_name, demo.access_encrypted) == (PICTURE_APP.name, False)
    assert len(demo.covers) == len(demo.tags) == 1
    nodes = [NodeInput(node.node_id, node.field_name, node.field_value) for node in demo.node_info_list]
    created = await world(client.run_ai_app, PICTURE_APP.id, nodes, webhook_url=world.hook)
    [output] = await world.wait(created.task_id)
    inner = json.loads((await world.callback())["eventData"])
    assert inner["data"][0]["fileUrl"] == output.file_url


async def test_a_model_is_run_and_queried(world: World) -> None:
    client = world.client
    submitted = await world(client.run_model_api, MODEL, {"prompt": "a cat", "webhookUrl": world.hook})
    assert (submitted.error_code, submitted.usage) == ("", None)
    result = await world.wait_v2(submitted.task_id)
    assert result.status is TaskStatus.SUCCESS
    assert [row["outputType"] for row in result.results or []] == ["mp4"]
    assert result.usage is not None
    preview = await world(client.preview_model_price, MODEL, {"prompt": "a cat"})
    assert result.usage.third_party_consume_money == f"{preview.estimated_price:.2f}"
    assert (preview.currency, preview.error_code, preview.is_free_this_call) == ("CNY", "", False)
    callback = await world.callback()
    assert callback["eventData"]["taskId"] == submitted.task_id


async def test_a_query_tells_what_a_workflow_used(world: World) -> None:
    created = await world(world.client.run, TEXT_TO_IMAGE.id)
    result = await world.wait_v2(created.task_id)
    [used] = result.task_usage_list
    # The client calls this id a text; on the wire it is a number.
    assert (str(used.task_id), used.parent_task_id, used.task_status) == (created.task_id, None, "SUCCESS")
    assert used.usage == result.usage


async def test_a_model_that_is_refused_leaves_no_task(world: World) -> None:
    world.simulator.outage("submit", "code", times=1, code="1014")
    refused = await world(world.client.run_model_api, MODEL, {})
    assert (refused.task_id, refused.status, refused.error_code) == ("", None, "1014")


async def test_an_unknown_workflow_raises_the_provider_s_code(world: World) -> None:
    with pytest.raises(RunningHubError) as raised:
        await world(world.client.run, "999")
    assert (raised.value.code, raised.value.message) == (380, "WORKFLOW_NOT_EXISTS")


async def test_a_graph_comes_as_it_was_saved(world: World) -> None:
    assert await world(world.client.get_workflow_json_parsed, TEXT_TO_IMAGE.id) == TEXT_TO_IMAGE.graph


# Callbacks and cancelling


async def test_a_webhook_is_looked_at_and_sent_again(world: World) -> None:
    client = world.client
    created = await world(client.run, TEXT_TO_IMAGE.id, webhook_url=world.hook)
    await world.wait(created.task_id)
    first = await world.callback()
    detail = await world(client.get_webhook_detail, created.task_id)
    assert (detail.task_id, detail.webhook_url) == (created.task_id, world.hook)
    assert detail.event_data == first["eventData"]
    await world(client.retry_webhook, detail.id, world.hook)
    assert await world.callback() == first


async def test_a_task_without_a_webhook_has_no_detail(world: World) -> None:
    created = await world(world.client.run, TEXT_TO_IMAGE.id)
    with pytest.raises(RunningHubError) as raised:
        await world(world.client.get_webhook_detail, created.task_id)
    assert (raised.value.code, raised.value.message) == (1, "webhook event not exists")


async def test_a_task_is_cancelled(world: World) -> None:
    client = world.client
    created = await world(client.run, TEXT_TO_IMAGE.id)
    await world(client.cancel, created.task_id)
    assert await world(client.get_status, created.task_id) is TaskStatus.FAILED
    with pytest.raises(RunningHubError) as raised:
        await world(client.cancel, "1904136902449209346")
    assert raised.value.code == 807


# Uploads


async def test_a_file_is_uploaded_and_comes_back(world: World, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"\x89PNG and so on")
    data = await world(world.client.upload_file, file)
    assert (data.type, data.size) == ("image", "14")
    assert data.file_name.startswith("openapi/")
    copy = await world(world.client.download_file, data.download_url, tmp_path / "copy.png")
    assert copy.read_bytes() == file.read_bytes()


async def test_a_lora_is_uploaded(world: World) -> None:
    name = await world(world.client.upload_lora, "mine", LORA)
    assert name.startswith("api-lora-cn/")
    lora = world.simulator.uploads.loras[hashlib.md5(LORA).hexdigest()]
    assert (lora.name, lora.size) == ("mine", len(LORA))


# The account


async def test_queue_and_keys_are_told(world: World) -> None:
    queue = await world(world.client.get_queue_status)
    assert (queue.api_key_type, queue.concurrent_limit) == ("SHARED", 100)
    assert queue.total_current_tasks == str(len(world.simulator.tasks) - _ended(world))
    [key] = await world(world.client.list_api_keys)
    assert key.is_enabled
    assert await world(world.client.validate_api_key)


async def test_the_account_is_told(world: World) -> None:
    # The page has `apikey`, and this client sends `apiKey`. Nobody measured whether that is taken; but the measured
    # refusal of a call without a key asks for "param apiKey", and clients in use send nothing else. So it is taken.
    told = await world(world.client.get_account_status)
    assert (told.api_type, told.current_task_counts) == ("SHARED", str(len(world.simulator.tasks) - _ended(world)))


async def test_a_wrong_key_is_found_out(world: World) -> None:
    wrong = RunningHubClient("f" * 32, base_url=world.client.base_url)
    assert not await world(wrong.validate_api_key)
    wrong.close()


# Where the client and the simulator disagree


async def test_the_client_uploads_forms_as_json_when_it_is_asynchronous(world: World) -> None:
    # Its asynchronous twin sends the form with its usual `Content-Type: application/json`, without the boundary. The
    # page wants multipart/form-data, and nobody can find the parts without the boundary: it is wrong.
    with pytest.raises(RunningHubError) as raised:
        await world.client.async_upload_file(b"\x89PNG")
    assert raised.value.code == 1007


async def test_the_client_uploads_bytes_without_a_kind(world: World) -> None:
    # Bytes go out as "upload.bin", which is none of the kinds the page lists. What the provider says to that is not
    # known; a file without a kind would have no type to tell, so the simulator refuses it. A name helps.
    with pytest.raises(RunningHubError) as raised:
        await world(world.client.upload_file, b"\x89PNG")
    assert raised.value.code == 1007
    assert (await world(world.client.upload_file, b"\x89PNG", filename="cat.png")).type == "image"


async def test_the_client_cannot_upload_a_lora_twice(world: World) -> None:
    # The MD5 is a cache key, and on a hit the provider was seen to leave the URL out. The client puts the bytes to
    # nowhere then: it is wrong.
    await world(world.client.upload_lora, "another", LORA * 2)
    with pytest.raises(httpx.UnsupportedProtocol):
        await world(world.client.upload_lora, "another", LORA * 2)


async def test_the_client_has_no_word_for_a_cancelled_task(world: World) -> None:
    # The vendor's own client knows CANCEL as an end; this one knows the four documented states and breaks.
    created = await world(world.client.run, TEXT_TO_IMAGE.id)
    await world(world.client.cancel, created.task_id)
    with pytest.raises(ValueError, match="CANCEL"):
        await world(world.client.query_v2, created.task_id)


async def test_the_client_never_reads_why_a_task_failed(world: World) -> None:
    # The reason comes beside code 805. The client raises at the sight of a code, before it looks for the reason, so
    # its branch for `failedReason` is never reached. The page has both together: it is wrong.
    world.simulator.plan_next(Fault.FAILED)
    created = await world(world.client.run, TEXT_TO_IMAGE.id)
    with pytest.raises(RunningHubError) as raised:
        await world.wait(created.task_id)
    assert (raised.value.code, raised.value.message) == (805, "APIKEY_TASK_STATUS_ERROR")


async def test_outputs_that_are_not_ready_are_an_error_to_the_client(world: World) -> None:
    # 804 and 813 are states and not errors by the page; the client raises them, so whoever polls has to catch them.
    created = await world(world.client.run, TEXT_TO_IMAGE.id)
    with pytest.raises(RunningHubError) as raised:
        await world(world.client.get_outputs, created.task_id)
    assert raised.value.code in (804, 813)


def _ended(world: World) -> int:
    return sum(task.status.ended for task in world.simulator.tasks.values())
