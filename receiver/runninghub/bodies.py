"""What the input of a workflow, an AI app or a quick creation may hold, judged before it is sent. Pure.

Pages "Start ComfyUI Task 2 - Advanced", "Start AI App Task" and "Initiate Quick Create Task"; what the provider's own
console and published clients send as well (retainSeconds, accessPassword) counts too. What nodes take is not known.
"""

from collections.abc import Iterator, Mapping

from receiver.model.records import Json, Kind
from receiver.runninghub.catalogue import Model, Param, Type
from receiver.runninghub.validation import validate
from receiver.runninghub.wire import Unreadable, read_json

NODES, GRAPH = "nodeInfoList", "workflow"
PERSONAL_QUEUE = "usePersonalQueue"
TEXTS_OF_SWITCHES = {"true": True, "false": False}
"""The provider's own examples send this switch as a text, and it takes both."""
OVERRIDE = ("nodeId", "fieldName", "fieldValue")
QUICK_OVERRIDE = (*OVERRIDE, "nodeName", "fieldType", "description")
"""What each item of a nodeInfoList needs; a quick creation wants all that the app's call example says of the node."""

_NODES = Param(name=NODES, type=Type.OBJECTS)
_MACHINE = (
    Param(name="instanceType", type=Type.STRING, enum=("default", "plus", "ultra")),
    Param(name=PERSONAL_QUEUE, type=Type.BOOLEAN),
    Param(name="retainSeconds", type=Type.INTEGER, min=10, max=180),
    Param(name="accessPassword", type=Type.STRING),
)
_WORKFLOW = (Param(name="addMetadata", type=Type.BOOLEAN), Param(name=GRAPH, type=Type.STRING))
_CODE = Param(name="quickCreateCode", type=Type.STRING, required=True)
_TAKEN: Mapping[Kind, tuple[Param, ...]] = {
    Kind.WORKFLOW: (_NODES, *_WORKFLOW, *_MACHINE),
    Kind.APP: (_NODES, *_MACHINE),
    Kind.QUICK: (_NODES, _CODE),
}


def body_problems(kind: Kind, body: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Everything that is wrong with the input of an order that is no model's, each with its path in the input."""
    model = Model(endpoint="", name="", group=(), output="", listed=True, params=_TAKEN[kind])
    judged = {name: value for name, value in body.items() if name != NODES}
    queue = judged.get(PERSONAL_QUEUE)
    if isinstance(queue, str):
        judged[PERSONAL_QUEUE] = TEXTS_OF_SWITCHES.get(queue, queue)
    yield from validate(model, judged)
    nodes = body.get(NODES, [])
    yield from _node_problems(nodes, QUICK_OVERRIDE if kind is Kind.QUICK else OVERRIDE)
    graph = body.get(GRAPH)
    if kind is Kind.WORKFLOW and isinstance(graph, str) and graph:
        if not _is_graph(graph):
            yield GRAPH, "expected the whole workflow in its API form: a JSON object of nodes, or its text"
        if nodes:
            yield NODES, f"does not go together with {GRAPH}: put the values into that graph (803)"


def _is_graph(text: str) -> bool:
    try:
        nodes = read_json(text.encode())
    except Unreadable:
        return False
    return isinstance(nodes, dict) and nodes != {}


def _node_problems(nodes: Json, needed: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What is wrong with the overrides of nodes (page "About nodeInfoList")."""
    *most, last = needed
    allowed = f"{', '.join(most)} and {last}"
    if not isinstance(nodes, list):
        yield NODES, f"expected a list of objects with {allowed}"
        return
    for place, node in enumerate(nodes):
        path = f"{NODES}[{place}]"
        if not isinstance(node, dict):
            yield path, f"expected an object with {allowed}"
            continue
        for name in needed:
            if name not in node:
                known = "" if name in OVERRIDE else "; GET /api/apps/ID (receiver app ID --json) tells it"
                yield f"{path}.{name}", f"is missing{known}"
