"""Where an order may name local files: `@path` where a file is expected; `@@text` is the text `@text`.

A file is expected where the catalogue says so, where nobody knows a parameter, in the fieldValues of a nodeInfoList,
and in the inputs of the nodes of a whole workflow.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from receiver.model.records import Json
    from receiver.runninghub.catalogue import Model, Param

SIGN = "@"
GRAPH = "workflow"
"""The field that holds the whole graph of a workflow, as JSON in a text (page "Start ComfyUI Task", advanced)."""


class Spot(NamedTuple):
    """A place in an order where a text may name a file: `holder[key]`, called `name`."""

    holder: "dict[str, Json] | list[Json]"
    key: "str | int"
    name: str
    param: "Param | None"

    def put(self, text: str) -> None:
        self.holder[self.key] = text  # type: ignore[index]


class FileSpot(NamedTuple):
    """A place in an order that waits for a file."""

    spot: Spot
    path: Path


class Places:
    """An order's input and the places in it that name files. What has a second @ becomes the text behind the first.

    `target` is the model, None for what is no model's. A graph that is given as an object becomes the text that the
    provider takes; `seal` writes it anew when something was put into it.
    """

    def __init__(self, order: "dict[str, object]", target: str | None) -> None:
        self.model = _model(target) if target is not None else None
        self.files: list[FileSpot] = []
        self._order = order
        self._graph = _graph(order) if target is None else None
        self._must_seal = isinstance(order.get(GRAPH), dict)
        if target is not None:
            self._read(_inputs(order, self.model))
        else:
            self._read(_nodes(order))
            self._must_seal = self._read(_graph_inputs(self._graph or {})) or self._must_seal
        self.seal()

    def seal(self) -> None:
        """Writes down what was put into places. Until then a graph's text is as it was."""
        if self._graph is not None and self._must_seal:
            import msgspec

            self._order[GRAPH] = msgspec.json.encode(self._graph).decode()

    def _read(self, spots: Iterator[Spot]) -> bool:
        """Whether any of the texts begins with the sign."""
        found = False
        for spot in [*spots]:
            text = spot.holder[spot.key]  # type: ignore[index]
            if not isinstance(text, str) or not text.startswith(SIGN) or text == SIGN:
                continue
            found = True
            if text.startswith(SIGN * 2):
                spot.put(text[1:])
            else:
                self.files.append(FileSpot(spot, _expanded(text[1:])))
        return found


def _model(name: str) -> "Model | None":
    from receiver.runninghub import catalogue

    try:
        return catalogue.find(name).model
    except catalogue.UnknownModel:
        return None


def _inputs(order: "dict[str, object]", model: "Model | None") -> Iterator[Spot]:
    """Where a model takes files; a parameter that nobody knows may take one."""
    from receiver.runninghub.catalogue import parameter

    for name, value in order.items():
        param = parameter(model, name) if model is not None else None
        if param is not None and param.media is None:
            continue
        if isinstance(value, list):
            yield from (Spot(value, place, f"input.{name}[{place}]", param) for place in range(len(value)))
        else:
            yield Spot(order, name, f"input.{name}", param)  # type: ignore[arg-type]


def _nodes(order: "dict[str, object]") -> Iterator[Spot]:
    nodes = order.get("nodeInfoList")
    for place, node in enumerate(nodes if isinstance(nodes, list) else []):
        if isinstance(node, dict) and "fieldValue" in node:
            yield Spot(node, "fieldValue", f"input.nodeInfoList[{place}].fieldValue", None)


def _graph(order: "dict[str, object]") -> "dict[str, Json] | None":
    """The graph of a whole workflow; None when there is none that can be read."""
    import msgspec

    value = order.get(GRAPH)
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None
    return value if isinstance(value, dict) else None


def _graph_inputs(graph: "dict[str, Json]") -> Iterator[Spot]:
    for name, node in graph.items():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if isinstance(inputs, dict):
            yield from (Spot(inputs, field, f"input.{GRAPH}.{name}.inputs.{field}", None) for field in inputs)


def _expanded(text: str) -> Path:
    try:
        return Path(text).expanduser()
    except RuntimeError:
        return Path(text)
