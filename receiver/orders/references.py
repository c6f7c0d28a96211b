"""Where an order may name files, and how it names uploads. Pure.

A file may be named in a model's parameters that take files, and in those that nobody knows; in all other orders in the
`fieldValue`s of `nodeInfoList`, and in the inputs of the nodes of a whole workflow.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

import msgspec

from receiver.model.records import Json, JsonObject, Kind
from receiver.runninghub.bodies import GRAPH, NODES
from receiver.runninghub.catalogue import Model, Param, parameter
from receiver.runninghub.wire import DEPTH, Unreadable, decode_json

PREFIX = "upload:"
DIGITS = 32
"""Of the bytes' SHA-256, in hexadecimal: nobody finds two files that share so many."""
ID = re.compile(rf"{PREFIX}[0-9a-f]{{{DIGITS}}}")
PENDING = PREFIX + "0" * DIGITS
"""Stands for a file that has no id yet."""


class Spot(NamedTuple):
    """A text where a file may be named, the path to it (`input.imageUrls[0]`), and what the catalogue says of it."""

    path: str
    text: str
    param: Param | None = None


Change = Callable[[Spot], str]
"""What a text becomes."""


def upload_id(sha256: str) -> str:
    """The id of the upload of some bytes."""
    return PREFIX + sha256[:DIGITS]


def spots(kind: Kind, model: Model | None, input: JsonObject) -> list[Spot]:
    """Every text of an order's input that may name a file. `model` is None when the catalogue does not know it."""
    found: list[Spot] = []

    def kept(spot: Spot) -> str:
        found.append(spot)
        return spot.text

    changed(kind, model, input, kept)
    return found


def changed(kind: Kind, model: Model | None, input: JsonObject, change: Change) -> JsonObject:
    """A copy of an input, with every text changed that may name a file. A graph becomes a text, if it is none."""
    if kind is Kind.MODEL:
        return {name: _parameter(model, name, value, change) for name, value in input.items()}
    result = dict(input)
    if isinstance(nodes := input.get(NODES), list):
        result[NODES] = [_node(node, f"input.{NODES}[{place}]", change) for place, node in enumerate(nodes)]
    if kind is Kind.WORKFLOW:
        result = with_text_of_graph(result)
        if isinstance(graph := result.get(GRAPH), str):
            result[GRAPH] = _graph(graph, change)
    return result


def with_text_of_graph(input: JsonObject) -> JsonObject:
    """The provider takes a whole graph as JSON in a text; who gives it as an object means the same."""
    graph = input.get(GRAPH)
    return {**input, GRAPH: msgspec.json.encode(graph).decode()} if isinstance(graph, dict) else input


def _parameter(model: Model | None, name: str, value: Json, change: Change) -> Json:
    """A model's parameter: it may hold one file or a list of them."""
    param = parameter(model, name) if model is not None else None
    if isinstance(value, dict) or (param is not None and param.media is None):
        return value
    return with_texts(value, lambda path, text: change(Spot(path, text, param)), f"input.{name}", 1)


def _node(node: Json, path: str, change: Change) -> Json:
    if isinstance(node, dict) and isinstance(text := node.get("fieldValue"), str):
        return {**node, "fieldValue": change(Spot(f"{path}.fieldValue", text))}
    return node


def _graph(graph: str, change: Change) -> str:
    """A graph as JSON text, with every text in its nodes' inputs changed.

    What is no graph stays as it is, for the provider to judge; so does, to the letter, a graph that does not change.
    """
    try:
        nodes = decode_json(graph.encode())
        if not isinstance(nodes, dict):
            return graph
        new = dict(nodes)
        for name, node in nodes.items():
            if isinstance(node, dict) and "inputs" in node:
                path = f"input.{GRAPH}.{name}.inputs"
                inputs = with_texts(node["inputs"], lambda at, text: change(Spot(at, text)), path, DEPTH)
                new[name] = {**node, "inputs": inputs}
        return msgspec.json.encode(new).decode() if new != nodes else graph
    except (Unreadable, RecursionError):
        return graph


def with_texts(value: Json, change: Callable[[str, str], str], path: str, depth: int = -1) -> Json:
    """A value with the texts in it changed, `depth` levels deep; -1: all. `change` is given the path of each, too."""
    if isinstance(value, str):
        return change(path, value)
    if isinstance(value, dict) and depth:
        return {name: with_texts(item, change, f"{path}.{name}", depth - 1) for name, item in value.items()}
    if isinstance(value, list) and depth:
        return [with_texts(item, change, f"{path}[{place}]", depth - 1) for place, item in enumerate(value)]
    return value
