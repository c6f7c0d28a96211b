"""Uploads named in an order: found, judged, and replaced by what the provider calls them."""

import re
from collections.abc import Iterator, Mapping

from receiver.records import Json, JsonObject, Upload
from receiver.rules import is_fresh
from receiver.runninghub.catalogue import Model, Param, parameter
from receiver.runninghub.validation import file_problem
from receiver.store import Store

PREFIX = "upload:"
ID = re.compile(r"upload:[0-9a-f]{32}")
MOST = 500
"""How many uploads one order may name; it is more than any model or workflow takes."""

Problems = list[tuple[str, str]]


async def fresh_uploads(store: Store, document: JsonObject, now: float) -> Mapping[str, Upload]:
    """The uploads that an order names and that may be used yet, by id."""
    named = dict.fromkeys(_named(document.get("input")))
    found = await store.uploads(list(named)[:MOST])
    return {name: upload for name, upload in found.items() if is_fresh(upload, now)}


def with_links(
    input: JsonObject, model: Model | None, uploads: Mapping[str, Upload], found: Problems, *, checked: bool
) -> JsonObject:
    """A model's input with links in the places of uploads. Parameters that take no files stay as they are."""

    def one(param: Param | None, path: str, value: Json) -> Json:
        if not isinstance(value, str):
            return value
        if checked and param is not None and value.startswith("@"):
            found.append((path, "upload the file first (POST /api/uploads), and give the id that it gets"))
        if not (ID.fullmatch(value) or (param is not None and value.startswith(PREFIX))):
            return value
        upload = uploads.get(value)
        problem = _unsuitable(param, upload) if checked else None
        if upload is None or problem is not None:
            found.append((path, problem or _unknown(value)))
            return value
        return upload.url

    resolved: JsonObject = {}
    for name, value in input.items():
        param = parameter(model, name) if model is not None else None
        if param is not None and param.media is None:
            resolved[name] = value
        elif isinstance(value, list):
            resolved[name] = [one(param, f"input.{name}[{place}]", item) for place, item in enumerate(value)]
        else:
            resolved[name] = one(param, f"input.{name}", value)
    return resolved


def with_file_names(input: JsonObject, uploads: Mapping[str, Upload], found: Problems) -> JsonObject:
    """A workflow's or an app's input with the provider's file names in the places of uploads."""

    def one(place: int, node: Json) -> Json:
        value = node.get("fieldValue") if isinstance(node, dict) else None
        if not isinstance(node, dict) or not isinstance(value, str) or not ID.fullmatch(value):
            return node
        upload = uploads.get(value)
        if upload is None:
            found.append((f"input.nodeInfoList[{place}].fieldValue", _unknown(value)))
            return node
        return {**node, "fieldValue": upload.file_name}

    nodes = input.get("nodeInfoList")
    if not isinstance(nodes, list):
        return input
    return {**input, "nodeInfoList": [one(place, node) for place, node in enumerate(nodes)]}


def _named(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        if ID.fullmatch(value):
            yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _named(item)


def _unsuitable(param: Param | None, upload: Upload | None) -> str | None:
    """What is wrong with an upload for a parameter: by the name that it came with, and by the provider's own."""
    if param is None or upload is None:
        return None
    problem = file_problem(param, upload.name, upload.size)
    return problem and (file_problem(param, upload.file_name, upload.size) and problem)


def _unknown(name: str) -> str:
    return f"there is no upload {name[:60]}, or it is too old; upload the file again"
