"""What the provider says of its workflows, apps, queue, prices and uploads, as records. Pure: all else is Unreadable.

Sizes and counts come now as texts and now as numbers; here they are texts, or whole numbers where we count with them.
"""

from typing import TypeGuard

from msgspec import Struct

from receiver.model.records import Json, JsonObject, Node, Price
from receiver.runninghub.wire import Unreadable, read_id, read_json

NODES_LIMIT = 5000
OPTIONS_LIMIT = 500


class App(Struct, frozen=True, kw_only=True):
    """An AI app: its name, and the fields that may be set."""

    name: str
    nodes: list[Node]


class Stored(Struct, frozen=True, kw_only=True):
    """A file that the provider has stored: a link for models, good for a day, and a file name for nodes."""

    type: str | None
    url: str
    file_name: str
    size: int | None


class LoraTicket(Struct, frozen=True, kw_only=True):
    """Where a LoRA's bytes are to be put; without a `url` the provider has them already."""

    file_name: str
    url: str | None


class Queue(Struct, frozen=True, kw_only=True):
    """How many tasks the key may run at once, and how many there are. None where the provider says nothing."""

    type: str | None
    limit: int | None
    running: int | None
    queued: int | None
    total: int | None


def read_workflow(data: Json) -> list[Node]:
    """The fields of a workflow that may be set, out of its graph. Links between nodes are no fields. Raises Unreadable.

    The graph comes as the text of a JSON object (page "Get Workflow JSON").
    """
    prompt = data.get("prompt") if isinstance(data, dict) else None
    graph = read_json(prompt.encode()) if isinstance(prompt, str) else prompt
    if not _is_object(graph):
        raise Unreadable("a workflow without a graph")
    return [node for name, each in graph.items() if _is_object(each) for node in _fields(name, each)][:NODES_LIMIT]


def read_app(data: Json) -> App:
    """An app out of its call example (page "Get AI App API Call Example"). Raises Unreadable."""
    if not isinstance(data, dict):
        raise Unreadable("an app without data")
    rows = data.get("nodeInfoList")
    if not isinstance(rows, list):
        raise Unreadable("an app without a list of nodes")
    nodes = [node for row in rows[:NODES_LIMIT] if (node := _app_node(row)) is not None]
    return App(name=_text(data.get("webappName")) or "", nodes=nodes)


def read_stored(data: Json) -> Stored:
    """An uploaded file (page "Upload Resource (New)"). Raises Unreadable."""
    name = read_file_name(data)
    url = _text(data.get("download_url")) if isinstance(data, dict) else None
    if not isinstance(data, dict) or url is None:
        raise Unreadable("an upload without a link")
    return Stored(type=_text(data.get("type")), url=url, file_name=name, size=_number(data.get("size")))


def read_file_name(data: Json) -> str:
    """The name of an uploaded file for nodes. Raises Unreadable."""
    name = _text(data.get("fileName")) if isinstance(data, dict) else None
    if name is None:
        raise Unreadable("an upload without a file name")
    return name


def read_ticket(data: Json) -> LoraTicket:
    """Where a LoRA goes. Raises Unreadable."""
    name = read_file_name(data)
    url = _text(data.get("url")) if isinstance(data, dict) else None
    if url is not None and not url.lower().startswith(("https://", "http://")):
        raise Unreadable("a LoRA upload to what is no link")
    return LoraTicket(file_name=name, url=url)


def read_queue(data: Json) -> Queue:
    """Raises Unreadable."""
    if not isinstance(data, dict):
        raise Unreadable("a queue without data")
    return Queue(
        type=_text(data.get("apiKeyType")),
        limit=_number(data.get("concurrentLimit")),
        running=_number(data.get("runningCount")),
        queued=_number(data.get("queuedCount")),
        total=_number(data.get("totalCurrentTasks")),
    )


def read_price(body: bytes) -> tuple[Price | None, str, str]:
    """A price as (price, error code, error message); it comes bare or in an envelope. Raises Unreadable."""
    payload = read_json(body)
    if not isinstance(payload, dict):
        raise Unreadable("not a JSON object")
    data = payload.get("data")
    found: JsonObject = data if isinstance(data, dict) else payload
    if any(found.get(name) is not None for name in ("estimatedPrice", "priceText", "isFreeThisCall")):
        return _price(found), "", ""
    for name in ("errorCode", "code"):
        code = payload.get(name)
        if isinstance(code, int | str) and not isinstance(code, bool) and str(code) not in ("", "0"):
            message = (_text(payload.get(name)) for name in ("errorMessage", "message", "msg"))
            return None, str(code), next((text for text in message if text), "")
    raise Unreadable("neither a price nor an error code")


def _price(data: JsonObject) -> Price:
    free = data.get("isFreeThisCall")
    return Price(
        amount=_said(data.get("estimatedPrice")),
        currency=_text(data.get("currency")),
        text=_text(data.get("priceText")),
        free=free if isinstance(free, bool) else None,
    )


def _fields(name: str, node: JsonObject) -> list[Node]:
    inputs, meta = node.get("inputs"), node.get("_meta")
    kind = _text(node.get("class_type")) or ""
    title = _text(meta.get("title")) if isinstance(meta, dict) else None
    if not isinstance(inputs, dict):
        return []
    return [
        Node(node=name, field=field, value=value, type=kind, title=title or kind)
        for field, value in inputs.items()
        if not isinstance(value, dict | list)
    ]


def _app_node(row: Json) -> Node | None:
    if not isinstance(row, dict):
        return None
    node, field = read_id(row.get("nodeId")), _text(row.get("fieldName"))
    if node is None or field is None:
        return None
    name, described, in_english = (_text(row.get(key)) or "" for key in ("nodeName", "description", "descriptionEn"))
    return Node(
        node=node,
        field=field,
        value=row.get("fieldValue"),
        type=_text(row.get("fieldType")) or "",
        title=in_english or described or name,
        options=_options(row.get("fieldData")),
        name=name,
        description=described or in_english,
    )


def _options(data: Json) -> list[str]:
    """The choices of a field. They come as the text of a list: of texts, of objects, or of a list of these and more."""
    try:
        listed = read_json(data.encode()) if isinstance(data, str) and data else data
    except Unreadable:
        return []
    if isinstance(listed, list) and listed and isinstance(listed[0], list):
        listed = listed[0]
    if not isinstance(listed, list):
        return []
    texts = [
        next((_said(each.get(key)) for key in ("index", "value", "name") if each.get(key) is not None), None)
        if isinstance(each, dict)
        else _said(each)
        for each in listed[:OPTIONS_LIMIT]
    ]
    return [text for text in texts if text is not None]


def _said(value: Json) -> str | None:
    return None if value is None or isinstance(value, dict | list | bool) else str(value)


def _text(value: Json) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: Json) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value >= 0 else None
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19 else None


def _is_object(value: Json) -> TypeGuard[JsonObject]:
    return isinstance(value, dict)
