"""RunningHub's endpoints that are about no task: workflows, apps, styles, prices, the queue, and uploads.

Every method is one documented endpoint, and every failure a ProviderError. Uploads are sent again only when not even a
connection was made; all else changes nothing and is asked again a few times.
"""

from receiver.model.records import Json, JsonObject, Node, Price
from receiver.runninghub import nodes
from receiver.runninghub.client import Answered, Channel, FileToSend, accepted, refusal, understood
from receiver.runninghub.nodes import App, LoraTicket, Queue, Stored


class Resources:
    """What can be had from the provider, and brought to it, beside tasks."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    @property
    def site(self) -> str:
        """The base URL of the provider's site."""
        return self._channel.site

    async def workflow(self, workflow_id: str) -> list[Node]:
        """The fields of a workflow that may be set (page "Get Workflow JSON")."""
        body: JsonObject = {"workflowId": workflow_id}
        answered, data = await self._channel.read(lambda: self._channel.v1("/api/openapi/getJsonApiFormat", body))
        return understood(answered, lambda _: nodes.read_workflow(data))

    async def app(self, app_id: str) -> App:
        """An app's name and its fields (page "Get AI App API Call Example"). The key stands in the address."""
        answered, data = await self._channel.read(lambda: self._app_once(app_id))
        return understood(answered, lambda _: nodes.read_app(data))

    async def styles(self, app_id: str, type: int) -> list[JsonObject]:
        """The styles of a quick creation (page "Get Quick Create Model Library Style Data"). It takes no key."""
        answered, data = await self._channel.read(lambda: self._styles_once(app_id, type))
        if not isinstance(data, list):
            raise refusal("unreadable", "styles that are no list", answered)
        return [each for each in data if isinstance(each, dict)]

    async def status(self, task_id: str) -> str:
        """A task's bare status, QUEUED, RUNNING, SUCCESS or FAILED (page "Check Task Status")."""
        body: JsonObject = {"taskId": task_id}
        answered, data = await self._channel.read(lambda: self._channel.v1("/task/openapi/status", body))
        if not isinstance(data, str) or not data:
            raise refusal("unreadable", "a status that is no text", answered)
        return data.upper()

    async def queue(self) -> Queue:
        """How much the key may run at once, and runs (GET /openapi/v2/queue/status; seen in use, on no page)."""
        answered, data = await self._channel.read(self._queue_once)
        return understood(answered, lambda _: nodes.read_queue(data))

    async def price(self, endpoint: str, body: JsonObject) -> Price:
        """What a model's task would cost: its own body (POST /openapi/v2/price-preview; seen in use, on no page)."""
        return await self._channel.read(lambda: self._price_once(endpoint, body))

    async def upload(self, file: FileToSend) -> Stored:
        """Stores a file for models and nodes (page "Upload Resource (New)"). Here the sentence is called message."""
        path = "/openapi/v2/media/upload/binary"
        answered, data = await self._channel.until_sent(lambda: self._form_once(path, {}, file))
        return understood(answered, lambda _: nodes.read_stored(data))

    async def upload_for_nodes(self, file: FileToSend) -> str:
        """Stores a file for nodes alone, returns its file name (page "Upload Resource (Old)"). The key is a field."""
        fields = {"apiKey": self._channel.key, "fileType": "input"}
        answered, data = await self._channel.until_sent(lambda: self._form_once("/task/openapi/upload", fields, file))
        return understood(answered, lambda _: nodes.read_file_name(data))

    async def upload_lora(self, file: FileToSend, md5: str) -> str:
        """Stores a LoRA and returns its file name (page "Upload Lora"). Known bytes are not sent again."""
        ticket = await self._ticket(file.name, md5)
        url = ticket.url
        if url is None:
            return ticket.file_name
        answered = await self._channel.until_sent(lambda: self._channel.put(url, file))
        if answered.status >= 300:
            raise refusal(f"http_{answered.status}", f"the store answered {answered.status}", answered)
        return ticket.file_name

    async def _ticket(self, name: str, md5: str) -> LoraTicket:
        body: JsonObject = {"loraName": name, "md5Hex": md5}
        answered, data = await self._channel.read(lambda: self._channel.v1("/api/openapi/getLoraUploadUrl", body))
        return understood(answered, lambda _: nodes.read_ticket(data))

    async def _app_once(self, app_id: str) -> tuple[Answered, Json]:
        query = {"apiKey": self._channel.key, "webappId": app_id}
        return accepted(await self._channel.get("/api/webapp/apiCallDemo", query))

    async def _styles_once(self, app_id: str, type: int) -> tuple[Answered, Json]:
        body: JsonObject = {"type": type, "webappId": app_id}
        return accepted(await self._channel.post_without_key("/api/fast/creation/model/params", body))

    async def _queue_once(self) -> tuple[Answered, Json]:
        return accepted(await self._channel.get("/openapi/v2/queue/status", {}))

    async def _price_once(self, endpoint: str, body: JsonObject) -> Price:
        answered = await self._channel.post(f"/openapi/v2/price-preview/{endpoint}", body)
        price, code, message = understood(answered, nodes.read_price)
        if price is None:
            raise refusal(code, message, answered)
        return price

    async def _form_once(self, path: str, fields: dict[str, str], file: FileToSend) -> tuple[Answered, Json]:
        return accepted(await self._channel.post_form(path, fields, file))
