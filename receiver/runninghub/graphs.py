"""A whole ComfyUI workflow, out of whatever it comes wrapped in. Pure."""

from collections.abc import Callable

import msgspec

from receiver.model.records import Json, JsonObject
from receiver.runninghub.wire import Unreadable, decode_json

WRAPPERS = ("prompt", "output", "data", "workflow")
"""Where a graph lies in what ComfyUI takes and writes into pictures, and in RunningHub's own answers."""
MOST_WRAPPERS = 6
EXPECTED = "expected the whole workflow in its API form: a JSON object of nodes, or its text"


class EditorForm(Unreadable):
    """This is the form in which ComfyUI's editor keeps a workflow, which nothing can run."""

    def __init__(self) -> None:
        super().__init__(
            "this is the workflow as ComfyUI's editor saves it, with nodes and links; what runs is its API form: "
            "export it with Workflow > Export (API), once called Save (API Format)"
        )


def graph_of(given: Json, decode: Callable[[bytes], Json] = decode_json) -> tuple[JsonObject, str]:
    """A workflow in API form, an object of nodes, and its text: to the letter where it came as a text.

    Raises Unreadable, which says what it is instead; EditorForm when it must be exported in another form.
    """
    value, text = given, ""
    for _ in range(MOST_WRAPPERS):
        text = value.removeprefix("\ufeff") if isinstance(value, str) else ""
        if text:
            value = decode(text.encode())
        if isinstance(value, dict):
            if any(isinstance(node, dict) and node.keys() & {"class_type", "inputs"} for node in value.values()):
                return value, text or msgspec.json.encode(value).decode()
            if isinstance(value.get("nodes"), list) and value.keys() & {"links", "last_node_id"}:
                raise EditorForm
            inside = (value[name] for name in WRAPPERS if isinstance(value.get(name), dict | str))
            value = next(inside, None)
    raise Unreadable("no object of nodes")
