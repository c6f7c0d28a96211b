"""What the input of a workflow, an AI app or a quick creation may hold, judged before it is sent. Pure.

Pages "Start ComfyUI Task 2 - Advanced", "Start AI App Task" and "Initiate Quick Create Task"; what the provider's own
console and published clients send as well (retainSeconds, accessPassword) counts too. What nodes take is not known.
"""

from collections.abc import Iterator, Mapping

from receiver.model.records import Json, Kind
from receiver.runninghub.catalogue import Model, Param, Type, closest
from receiver.runninghub.graphs import EXPECTED, EditorForm, graph_of
from receiver.runninghub.validation import validate
from receiver.runninghub.wire import Unreadable

NODES, GRAPH = "nodeInfoList", "workflow"
PERSONAL_QUEUE, RETAIN = "usePersonalQueue", "retainSeconds"
TEXTS_OF_SWITCHES = {"true": True, "false": False}
"""The provider's own examples send this switch as a text, and it takes both."""
OVERRIDE = ("nodeId", "fieldName", "fieldValue")
QUICK_OVERRIDE = (*OVERRIDE, "nodeName", "fieldType", "description")
"""What each item of a nodeInfoList needs; a quick creation wants all that the app's call example says of the node."""

_NODES = Param(name=NODES, type=Type.OBJECTS)
_MACHINE = (
    Param(name="instanceType", type=Type.STRING, enum=("default", "plus", "ultra")),
    Param(name=PERSONAL_QUEUE, type=Type.BOOLEAN),
    Param(name=RETAIN, type=Type.INTEGER, min=10, max=180),
    Param(name="accessPassword", type=Type.STRING),
    Param(name="randomSeed", type=Type.BOOLEAN),
)
_WORKFLOW = (Param(name="addMetadata", type=Type.BOOLEAN), Param(name=GRAPH, type=Type.STRING))
_CODE = Param(name="quickCreateCode", type=Type.STRING, required=True)
_TAKEN: Mapping[Kind, tuple[Param, ...]] = {
    Kind.WORKFLOW: (_NODES, *_WORKFLOW, *_MACHINE),
    Kind.APP: (_NODES, *_MACHINE),
    Kind.QUICK: (_NODES, _CODE),
}


def takes(kind: Kind) -> list[str]:
    """The fields that an order of a kind is known to take."""
    return [param.name for param in _TAKEN[kind]]


def is_text(kind: Kind, name: str) -> bool:
    """Whether a field of an order of this kind is a text, though it may look like a number."""
    return any(param.name == name and param.type is Type.STRING and name != GRAPH for param in _TAKEN.get(kind, ()))


def strange_fields(kind: Kind, body: Mapping[str, Json]) -> list[str]:
    """The fields of a workflow's or an app's order that we do not know, and that no known one was meant by.

    They are no problems: the provider takes fields that are on no page. A misspelt one is, for it costs money to find.
    """
    known = takes(kind)
    return [name for name in body if kind is not Kind.QUICK and name not in known and not closest(name, known)]


def body_problems(kind: Kind, body: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Everything that is wrong with the input of an order that is no model's, each with its path in the input."""
    model = Model(endpoint="", name="", group=(), output="", listed=True, params=_TAKEN[kind])
    strange = strange_fields(kind, body)
    judged = {name: value for name, value in body.items() if name != NODES and name not in strange}
    queue = judged.get(PERSONAL_QUEUE)
    if isinstance(queue, str):
        judged[PERSONAL_QUEUE] = TEXTS_OF_SWITCHES.get(queue, queue)
    if judged.get(RETAIN) == 0 and judged[RETAIN] is not False:
        del judged[RETAIN]  # not to keep the machine at all is no time, and as good as leaving it out
    yield from validate(model, judged)
    nodes = body.get(NODES, [])
    yield from _node_problems(nodes, QUICK_OVERRIDE if kind is Kind.QUICK else OVERRIDE)
    if kind is Kind.WORKFLOW:
        yield from _graph_problems(body)


def _graph_problems(body: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """What is wrong with a whole workflow, in its field or as the input itself."""
    graph = body.get(GRAPH)
    try:
        if graph is None:
            graph_of(dict(body))
        elif isinstance(graph, str) and graph:
            graph_of(graph)
    except EditorForm as form:
        yield GRAPH, str(form)
    except Unreadable as problem:
        if graph is not None:
            yield GRAPH, f"{EXPECTED} ({problem})"
    if graph and body.get(NODES):
        yield NODES, f"does not go together with {GRAPH}: put the values into that graph (803)"


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
