"""Uploads named in an order: found, judged, and replaced by what the provider calls them."""

import re
from collections.abc import Iterator, Mapping

from msgspec import Struct

from receiver.model.records import Json, JsonObject, Kind, Upload
from receiver.model.rules import is_fresh
from receiver.orders.attachments import GRAPH, Problems, stand_in, too_old, with_graph_texts
from receiver.runninghub.catalogue import Model, Param, parameter
from receiver.runninghub.validation import file_problem
from receiver.store import Store

PREFIX = "upload:"
ID = re.compile(r"upload:[0-9a-f]{32}")
MOST = 500
"""How many uploads one order may name; it is more than any model or workflow takes."""


class Named(Struct, frozen=True, kw_only=True):
    """The uploads that an order names and that may be used, by id; and what is wrong with older ones that it names."""

    uploads: Mapping[str, Upload]
    refused: Mapping[str, str]


async def named_uploads(store: Store, document: JsonObject, site: str, now: float) -> Named:
    """What is known of the uploads that an order names. `now` in seconds since 1970."""
    names = dict.fromkeys(_named(document.get("input"), GRAPH))
    found = await store.uploads(list(names)[:MOST])
    fresh = {name: upload for name, upload in found.items() if is_fresh(upload, now, site)}
    return Named(
        uploads=fresh,
        refused={name: too_old(name, upload, site) for name, upload in found.items() if name not in fresh},
    )


class References:
    """Puts what the provider takes in the places of uploads.

    `used` tells which were there and what stands for them, `found` what is wrong, and `unknown` which uploads are too
    old or were never there: that is no fault of the order's, which may have been taken when they were young.
    """

    def __init__(self, kind: Kind, uploads: Mapping[str, Upload], refused: Mapping[str, str]) -> None:
        self.used: dict[str, str] = {}
        self.found: Problems = []
        self.unknown: Problems = []
        self._kind = kind
        self._uploads = uploads
        self._refused = refused

    def with_links(self, input: JsonObject, model: Model | None, *, checked: bool) -> JsonObject:
        """A model's input with links in the places of uploads. Parameters that take no files stay as they are."""
        resolved: JsonObject = {}
        for name, value in input.items():
            param = parameter(model, name) if model is not None else None
            path = f"input.{name}"
            if param is not None and param.media is None:
                resolved[name] = value
            elif isinstance(value, list):
                resolved[name] = [
                    self._link(param, f"{path}[{place}]", item, checked=checked) for place, item in enumerate(value)
                ]
            else:
                resolved[name] = self._link(param, path, value, checked=checked)
        return resolved

    def with_file_names(self, input: JsonObject) -> JsonObject:
        """A workflow's or an app's input with the provider's file names in the places of uploads.

        They may stand in the values of `nodeInfoList`, and in a workflow's whole graph in the inputs of its nodes.
        """
        nodes, graph = input.get("nodeInfoList"), input.get(GRAPH)
        resolved = dict(input)
        if isinstance(nodes, list):
            resolved["nodeInfoList"] = [self._node(place, node) for place, node in enumerate(nodes)]
        if isinstance(graph, str) and self._kind is Kind.WORKFLOW:
            resolved[GRAPH] = with_graph_texts(graph, lambda path, text: self._file_name(f"input.{GRAPH}.{path}", text))
        return resolved

    def _link(self, param: Param | None, path: str, value: Json, *, checked: bool) -> Json:
        if not isinstance(value, str):
            return value
        if checked and param is not None and value.startswith("@"):
            self.found.append((path, "upload the file first (POST /api/uploads), and give the id that it gets"))
        if not (ID.fullmatch(value) or (param is not None and value.startswith(PREFIX))):
            return value
        problem = _unsuitable(param, self._uploads.get(value)) if checked else None
        if not ID.fullmatch(value):
            problem = f"expected an upload's id, {PREFIX} and 32 hexadecimal digits, as it was given"
        if problem is not None:
            self.found.append((path, problem))
            return value
        return self._stand_in(path, value)

    def _node(self, place: int, node: Json) -> Json:
        value = node.get("fieldValue") if isinstance(node, dict) else None
        if not isinstance(node, dict) or not isinstance(value, str):
            return node
        return {**node, "fieldValue": self._file_name(f"input.nodeInfoList[{place}].fieldValue", value)}

    def _file_name(self, path: str, value: str) -> str:
        return self._stand_in(path, value) if ID.fullmatch(value) else value

    def _stand_in(self, path: str, name: str) -> str:
        upload = self._uploads.get(name)
        if upload is None:
            self.unknown.append((path, self._refused.get(name) or too_old(name, None, "")))
            return name
        self.used[name] = stand_in(self._kind, upload)
        return self.used[name]


def _named(value: Json, graph: str | None = None) -> Iterator[str]:
    """The ids in an input, and in the graph that stands as a text in its field of that name."""
    if isinstance(value, str):
        if ID.fullmatch(value):
            yield value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from ID.findall(item) if name == graph and isinstance(item, str) else _named(item)
    elif isinstance(value, list):
        for item in value:
            yield from _named(item)


def _unsuitable(param: Param | None, upload: Upload | None) -> str | None:
    """What is wrong with an upload for a parameter: by the name that it came with, and by the provider's own."""
    if param is None or upload is None:
        return None
    problem = file_problem(param, upload.name, upload.size)
    return problem and (file_problem(param, upload.file_name, upload.size) and problem)
