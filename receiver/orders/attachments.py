"""Uploads inside an order: where they stand, and what stands for them.

An order names a file of ours by the id of its upload; the provider is sent a link, or a file name, in that place. A
link dies within a day, but an order may wait in our queue for longer, or be sent again much later. So a task remembers
which texts stand for which uploads, and they are looked up anew whenever it is about to be sent.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct

from receiver.model.records import Json, JsonObject, Kind, Task, Upload
from receiver.model.rules import is_fresh
from receiver.runninghub.wire import DEPTH, Unreadable, decode_json
from receiver.store import Store

Change = Callable[[str, str], str]
"""What a text becomes: of its path, such as `3.inputs.image`, and itself."""
Problems = list[tuple[str, str]]
"""What is wrong, each with its path in the order."""
GRAPH = "workflow"
"""The field of a workflow's order that has a whole graph in it (page "Start ComfyUI Task 2 - Advanced")."""


class Attached(Struct, frozen=True, kw_only=True):
    """An input with today's texts for its uploads, and these texts by the uploads' ids."""

    input: JsonObject
    uploads: dict[str, str]


async def refreshed(store: Store, task: Task, site: str, now: float) -> tuple[Attached, Problems]:
    """A task's input with what stands for its uploads now, and what is wrong with uploads that are too old for `site`.

    `now` in seconds since 1970. With problems the input must not be sent: there would be a dead link in it.
    """
    if not task.uploads:
        return Attached(input=task.input, uploads={}), []
    known = await store.uploads(task.uploads)
    today = {name: stand_in(task.kind, each) for name, each in known.items() if is_fresh(each, now, site)}
    dead = {text: name for name, text in task.uploads.items() if name not in today}
    texts = {text: today[name] for name, text in task.uploads.items() if name in today}
    problems: Problems = []

    def change(path: str, text: str) -> str:
        if text in dead:
            problems.append((path, too_old(dead[text], known.get(dead[text]), site)))
        return texts.get(text, text)

    renewed = _with_texts(task.input, change, "input", DEPTH)
    assert isinstance(renewed, dict)
    graph = renewed.get(GRAPH)
    if task.kind is Kind.WORKFLOW and isinstance(graph, str):
        renewed[GRAPH] = with_graph_texts(graph, lambda path, text: change(f"input.{GRAPH}.{path}", text))
    return Attached(input=renewed, uploads=today), problems


def stand_in(kind: Kind, upload: Upload) -> str:
    """What the provider is sent for an upload: models take links, nodes take file names (page "Upload Resource")."""
    return upload.url if kind is Kind.MODEL else upload.file_name


def too_old(name: str, upload: Upload | None, site: str) -> str:
    """What to say of an upload that cannot be used any more; None: nothing is known of it."""
    remedy = "upload the file again, and the same bytes get the same id"
    if upload is None:
        return f"there is no upload {name[:60]}, or it is too old; {remedy}"
    if upload.site != site and upload.site:
        return f"{upload.name} ({name}) was uploaded to {upload.site}, but tasks go to {site} now; {remedy}"
    return f"the upload of {upload.name} ({name}) is too old, its link dies after a day; {remedy}"


def with_graph_texts(graph: str, change: Change) -> str:
    """A graph as JSON text, with every text in its nodes' inputs changed.

    What is no graph stays as it is, for the provider to judge; so does, to the letter, a graph that does not change.
    """
    changes = 0

    def counted(path: str, text: str) -> str:
        nonlocal changes
        changed = change(path, text)
        changes += changed != text
        return changed

    try:
        nodes = decode_json(graph.encode())
        if not isinstance(nodes, dict):
            return graph
        changed = {name: _with_inputs(name, node, counted) for name, node in nodes.items()}
        return msgspec.json.encode(changed).decode() if changes else graph
    except (Unreadable, RecursionError):
        return graph


def _with_inputs(name: str, node: Json, change: Change) -> Json:
    if not isinstance(node, dict) or "inputs" not in node:
        return node
    return {**node, "inputs": _with_texts(node["inputs"], change, f"{name}.inputs", DEPTH)}


def _with_texts(value: Json, change: Change, path: str, depth: int) -> Json:
    if isinstance(value, str):
        return change(path, value)
    if isinstance(value, dict) and depth:
        return {name: _with_texts(item, change, f"{path}.{name}", depth - 1) for name, item in value.items()}
    if isinstance(value, list) and depth:
        return [_with_texts(item, change, f"{path}[{place}]", depth - 1) for place, item in enumerate(value)]
    return value
