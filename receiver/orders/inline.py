"""Files that stand in an order themselves, as data: URIs, in the place of a link. Pure.

They are uploaded as any other file is, and an order names them by their ids: what is kept of a task stays small.
"""

import binascii
import hashlib
import mimetypes

from msgspec import Struct

from receiver.model.errors import problems
from receiver.model.records import JsonObject, Kind
from receiver.orders.references import Spot, changed, upload_id
from receiver.orders.signatures import content_problem
from receiver.runninghub import catalogue
from receiver.runninghub.catalogue import Model
from receiver.runninghub.validation import DATA_URI


class InlineFile(Struct, frozen=True, kw_only=True):
    """A file out of a data: URI. Its name is made of what it is."""

    name: str
    content: bytes
    sha256: str


def take_out(document: JsonObject) -> tuple[JsonObject, dict[str, InlineFile]]:
    """An order with ids in the place of its data: URIs, and the files by these ids.

    What is no order is left to whoever reads it. Raises Refused (422) for a URI that holds no sound file.
    """
    kind, given = document.get("kind", Kind.MODEL), document.get("input")
    if kind not in list(Kind) or not isinstance(given, dict):
        return document, {}
    files: dict[str, InlineFile] = {}
    found: list[tuple[str, str]] = []

    def taken(spot: Spot) -> str:
        if not (begin := DATA_URI.match(spot.text)):
            return spot.text
        try:
            file = _file(begin["type"], binascii.a2b_base64(spot.text[begin.end() :], strict_mode=True))
        except ValueError as problem:
            found.append((spot.path, f"the data: URI cannot be read: {problem}"))
            return spot.text
        files[upload_id(file.sha256)] = file
        return upload_id(file.sha256)

    changed_input = changed(Kind(str(kind)), _model(document), given, taken)
    if found:
        raise problems(found)
    return ({**document, "input": changed_input}, files) if files else (document, {})


def _file(media_type: str, content: bytes) -> InlineFile:
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{sha256[:12]}{mimetypes.guess_extension(media_type.lower()) or '.bin'}"
    if problem := content_problem(name, content, len(content)):
        raise ValueError(f"{media_type} {problem}")
    return InlineFile(name=name, content=content, sha256=sha256)


def _model(document: JsonObject) -> Model | None:
    try:
        return catalogue.find(str(document.get("target"))).model
    except catalogue.UnknownModel:
        return None
