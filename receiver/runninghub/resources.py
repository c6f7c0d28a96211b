"""RunningHub's endpoints that are about no task: workflows, apps, styles, prices, the queue, and uploads.

Every method is one documented endpoint, and every failure a ProviderError. Uploads are sent again only when not even a
connection was made; all else changes nothing and is asked again a few times.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import httpx

from receiver.egress.client import Egress, EgressFailed, EgressRefused, EgressUnreached
from receiver.model.records import Json, JsonObject, Node, Price
from receiver.model.views import AppView, QueueView
from receiver.runninghub import nodes
from receiver.runninghub.client import (
    UPLOAD_DEADLINE,
    UPLOAD_TIMEOUT,
    Answered,
    Channel,
    FileToSend,
    asked_again,
    headers_of,
    refusal,
    understood,
    was_not_sent,
)
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.nodes import Stored

T = TypeVar("T")


class Resources(Channel):
    """What can be had from the provider, and brought to it, beside tasks. By `egress` files go where answers say."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base_url: str,
        api_key: str | None,
        egress: Egress,
        *,
        attempts: int = 3,
        read_wait: float = 0.5,
        deadline: float | None = None,
    ) -> None:
        super().__init__(http, base_url, api_key, attempts=attempts, read_wait=read_wait, deadline=deadline)
        self._egress = egress

    async def workflow(self, workflow_id: str) -> list[Node]:
        """The fields of a workflow that may be set (page "Get Workflow JSON")."""
        body: JsonObject = {"workflowId": workflow_id}
        return await self._v1("/api/openapi/getJsonApiFormat", body, nodes.read_workflow)

    async def app(self, app_id: str) -> AppView:
        """An app's name and its fields (page "Get AI App API Call Example"). The key stands in the address."""
        query = {"apiKey": self.key, "webappId": app_id}
        read = partial(nodes.read_app, app_id)
        return await self.data(lambda: self.get("/api/webapp/apiCallDemo", query), read)

    async def styles(self, app_id: str, type: int) -> list[JsonObject]:
        """The styles of a quick creation (page "Get Quick Create Model Library Style Data"). It takes no key."""
        body: JsonObject = {"type": type, "webappId": app_id}
        path = "/api/fast/creation/model/params"
        return await self.data(lambda: self.post(path, body, with_key=False), nodes.read_styles)

    async def status(self, task_id: str) -> str:
        """A task's bare status, QUEUED, RUNNING, SUCCESS or FAILED (page "Check Task Status")."""
        return await self._v1("/task/openapi/status", {"taskId": task_id}, nodes.read_status)

    async def queue(self) -> QueueView:
        """How much the key may run at once, and runs (GET /openapi/v2/queue/status; seen in use, on no page)."""
        return await self.data(lambda: self.get("/openapi/v2/queue/status", {}), nodes.read_queue)

    @asked_again
    async def price(self, endpoint: str, body: JsonObject) -> Price:
        """What a model's task would cost: its own body (POST /openapi/v2/price-preview; seen in use, on no page)."""
        answered = await self.post(f"/openapi/v2/price-preview/{endpoint}", body)
        price, code, message = understood(answered, nodes.read_price)
        if price is None:
            raise refusal(code, message, answered)
        return price

    async def upload(self, file: FileToSend) -> Stored:
        """Stores a file for models and nodes (page "Upload Resource (New)"). Here the sentence is called message."""
        return await self._form("/openapi/v2/media/upload/binary", {}, file, nodes.read_stored)

    async def upload_for_nodes(self, file: FileToSend) -> str:
        """Stores a file for nodes alone, returns its file name (page "Upload Resource (Old)"). The key is a field."""
        fields = {"apiKey": self.key, "fileType": "input"}
        return await self._form("/task/openapi/upload", fields, file, nodes.read_file_name)

    async def upload_lora(self, file: FileToSend, md5: str) -> str:
        """Stores a LoRA and returns its file name (page "Upload Lora"). Known bytes are not sent again."""
        body: JsonObject = {"loraName": file.name, "md5Hex": md5}
        file_name, url = await self._v1("/api/openapi/getLoraUploadUrl", body, nodes.read_ticket)
        if url:
            answered = await self.again(was_not_sent, self._store, url, file)
            if answered.status >= 300:
                raise refusal(f"http_{answered.status}", f"the store answered {answered.status}", answered)
        return file_name

    async def _store(self, url: str, file: FileToSend) -> Answered:
        """A file at an address that the provider has signed: on its own site, or else one of the public internet."""
        if url.startswith(f"{self.site}/"):
            return await self.put(url, file)
        idle = UPLOAD_TIMEOUT.read or UPLOAD_DEADLINE
        try:
            until = self._deadline or UPLOAD_DEADLINE
            stored = await self._egress.put(url, file.open(), headers_of(file), idle=idle, timeout=until)
        except EgressRefused as refused:
            raise ProviderError("unsafe", f"nothing was sent: {refused.problem}") from refused
        except EgressFailed as failed:
            code = "not_sent" if isinstance(failed, EgressUnreached) else "unanswered"
            raise ProviderError(code, str(failed)) from failed
        return Answered(status=stored.status, retry_after=None, body=stored.body_start)

    async def _v1(self, path: str, body: JsonObject, read: Callable[[Json], T]) -> T:
        return await self.data(lambda: self.post_v1(path, body), read)

    async def _form(self, path: str, fields: dict[str, str], file: FileToSend, read: Callable[[Json], T]) -> T:
        return await self.data(lambda: self.post_form(path, fields, file), read, again_after=was_not_sent)
