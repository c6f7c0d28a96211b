"""What the provider says of its workflows, apps, queue, prices and uploads, as records. Pure: all else is Unreadable.

Sizes and counts come now as texts and now as numbers; here they are texts, or whole numbers where we count with them.
"""

from msgspec import Struct

from receiver.model.records import Json, JsonObject, Node, Price
from receiver.model.views import AppView, QueueView
from receiver.runninghub.wire import Unreadable, from_text, object_of, read_code, read_id, read_object, text_of

NODES_LIMIT = 5000
OPTIONS_LIMIT = 500


class Stored(Struct, frozen=True, kw_only=True):
    """A file that the provider has stored: a link for models, good for a day, and a file name for nodes."""

    type: str
    url: str
    file_name: str


def read_workflow(data: Json) -> list[Node]:
    """The fields of a workflow that may be set, out of its graph. Links between nodes are no fields. Raises Unreadable.

    The graph comes as the text of a JSON object (page "Get Workflow JSON").
    """
    graph = from_text(data.get("prompt")) if isinstance(data, dict) else None
    if not isinstance(graph, dict):
        raise Unreadable("a workflow without a graph")
    return [field for name, node in graph.items() for field in _fields(name, node)][:NODES_LIMIT]


def read_app(app_id: str, data: Json) -> AppView:
    """An app out of its call example (page "Get AI App API Call Example"). Raises Unreadable."""
    rows = object_of(data, "an app").get("nodeInfoList")
    if not isinstance(rows, list):
        raise Unreadable("an app without a list of nodes")
    nodes = [node for row in rows[:NODES_LIMIT] if (node := _app_node(row)) is not None]
    return AppView(id=app_id, name=text_of(data, "webappName"), nodes=nodes)


def read_styles(data: Json) -> list[JsonObject]:
    """The styles of a quick creation, as they come. Raises Unreadable."""
    if not isinstance(data, list):
        raise Unreadable("styles that are no list")
    return [each for each in data if isinstance(each, dict)]


def read_status(data: Json) -> str:
    """A task's bare status in capitals. Raises Unreadable."""
    if not isinstance(data, str) or not data:
        raise Unreadable("a status that is no text")
    return data.upper()


def read_stored(data: Json) -> Stored:
    """An uploaded file (page "Upload Resource (New)"). Raises Unreadable."""
    name, url = read_file_name(object_of(data, "an upload")), text_of(data, "download_url")
    if not url:
        raise Unreadable("an upload without a link")
    return Stored(type=text_of(data, "type"), url=url, file_name=name)


def read_file_name(data: Json) -> str:
    """The name of an uploaded file for nodes. Raises Unreadable."""
    name = text_of(data, "fileName")
    if not name:
        raise Unreadable("an upload without a file name")
    return name


def read_ticket(data: Json) -> tuple[str, str]:
    """A LoRA's file name and where its bytes go, "" when the provider has them already. Raises Unreadable."""
    name, url = read_file_name(data), text_of(data, "url")
    if url and not url.lower().startswith(("https://", "http://")):
        raise Unreadable("a LoRA upload to what is no link")
    return name, url


def read_queue(data: Json) -> QueueView:
    """How many tasks the key may run at once, and how many there are. Raises Unreadable."""
    found = object_of(data, "a queue")
    names = ("concurrentLimit", "runningCount", "queuedCount", "totalCurrentTasks")
    limit, running, queued, total = (_whole_number(found.get(name)) for name in names)
    return QueueView(limit=limit, running=running, queued=queued, total=total)


def read_price(body: bytes) -> tuple[Price | None, str, str]:
    """A price as (price, error code, error message); it comes bare or in an envelope. Raises Unreadable."""
    payload = read_object(body)
    data = payload.get("data")
    found = data if isinstance(data, dict) else payload
    if any(found.get(name) is not None for name in ("estimatedPrice", "priceText", "isFreeThisCall")):
        return _price(found), "", ""
    code = read_code(payload.get("errorCode")) or read_code(payload.get("code"))
    if not code:
        raise Unreadable("neither a price nor an error code")
    return None, code, text_of(payload, "errorMessage", "message", "msg")


def _price(data: JsonObject) -> Price:
    free = data.get("isFreeThisCall")
    return Price(
        amount=_as_text(data.get("estimatedPrice")),
        currency=text_of(data, "currency") or None,
        text=text_of(data, "priceText") or None,
        free=free if isinstance(free, bool) else None,
    )


def _fields(name: str, node: Json) -> list[Node]:
    inputs = node.get("inputs") if isinstance(node, dict) else None
    if not isinstance(node, dict) or not isinstance(inputs, dict):
        return []
    kind = text_of(node, "class_type")
    title = text_of(node.get("_meta"), "title") or kind
    return [
        Node(node=name, field=field, value=value, type=kind, title=title)
        for field, value in inputs.items()
        if not isinstance(value, dict | list)
    ]


def _app_node(row: Json) -> Node | None:
    if not isinstance(row, dict):
        return None
    node, field = read_id(row.get("nodeId")), text_of(row, "fieldName")
    if node is None or not field:
        return None
    return Node(
        node=node,
        field=field,
        value=row.get("fieldValue"),
        type=text_of(row, "fieldType"),
        title=text_of(row, "descriptionEn", "description", "nodeName"),
        options=_options(row.get("fieldData")),
        name=text_of(row, "nodeName"),
        description=text_of(row, "description", "descriptionEn"),
    )


def _options(data: Json) -> list[str]:
    """The choices of a field. They come as the text of a list: of texts, of objects, or of a list of these and more."""
    try:
        listed = from_text(data)
    except Unreadable:
        return []
    if isinstance(listed, list) and listed and isinstance(listed[0], list):
        listed = listed[0]
    if not isinstance(listed, list):
        return []
    texts = [
        next((_as_text(each.get(key)) for key in ("index", "value", "name") if each.get(key) is not None), None)
        if isinstance(each, dict)
        else _as_text(each)
        for each in listed[:OPTIONS_LIMIT]
    ]
    return [text for text in texts if text is not None]


def _as_text(value: Json) -> str | None:
    return None if value is None or isinstance(value, dict | list | bool) else str(value)


def _whole_number(value: Json) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else None
