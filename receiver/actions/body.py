"""Bodies of a target's own shape: JSON whose texts have places, filled from the event document. Pure."""

import math
import re
from collections.abc import Iterator

import msgspec

from receiver.events import EVENT_FIELDS
from receiver.model.records import Json, JsonObject
from receiver.model.templates import LoneBrace, fill, places

_SECRET = re.compile("token|secret|passw|credential|api_?key", re.IGNORECASE)
"""Keys of a body whose texts must not be read by anybody but its target."""


def filled(template: Json, event: JsonObject) -> Json:
    """The template with every place filled. A text that is one place alone becomes the value, with its JSON type.

    Within a longer text null and what is not there are nothing, and what is no text is written as JSON.
    """
    if isinstance(template, dict):
        return {name: filled(value, event) for name, value in template.items()}
    if isinstance(template, list):
        return [filled(value, event) for value in template]
    if not isinstance(template, str):
        return template
    names = places(template)
    if len(names) == 1 and template == f"{{{names[0]}}}":
        return at(event, names[0])
    return fill(template, lambda name: _as_text(at(event, name)))


def body_problems(template: object) -> list[str]:
    """What is wrong with a configured body, each with its path; no text of it is told, for it may be a secret."""
    if not isinstance(template, dict | list):
        return ["body: expected a table or an array"]
    return [f"{path}: {problem}" for path, value in _leaves("body", template) for problem in _leaf_problems(value)]


def secrets_in(template: Json) -> list[str]:
    """The texts of a body, as they are sent, that by a key of theirs or of a table around them are its secrets."""
    return [
        fill(value, str)
        for path, value in _leaves("body", template)
        if isinstance(value, str) and _SECRET.search(path) and not places(value)
    ]


def _leaf_problems(value: object) -> list[str]:
    if isinstance(value, float) and not math.isfinite(value):
        return ["expected a finite number"]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return ["expected a number of 64 bits"]
    if value is not None and not isinstance(value, str | bool | int | float):
        return [f"expected text, a number, true or false, got a {type(value).__name__}"]
    if not isinstance(value, str):
        return []
    try:
        names = places(value)
    except LoneBrace as error:
        return [str(error)]
    return [
        f"there is no {{{name}}}; a place begins with one of {', '.join(EVENT_FIELDS)}"
        for name in names
        if name.partition(".")[0] not in EVENT_FIELDS
    ]


def _leaves(path: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(f"{path}.{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(f"{path}[{index}]", inner)
    else:
        yield path, value


def _value(value: Json, path: list[str]) -> Json:
    """What stands at a path; None when nothing does. A name in the document may itself have dots: the longest wins."""
    if not path:
        return value
    if isinstance(value, list):
        index = path[0]
        known = index.isascii() and index.isdecimal() and len(index) < 10 and int(index) < len(value)
        return _value(value[int(index)], path[1:]) if known else None
    if isinstance(value, dict):
        for end in range(len(path), 0, -1):
            if (name := ".".join(path[:end])) in value:
                return _value(value[name], path[end:])
    return None


def at(document: Json, path: str) -> Json:
    """What stands at a path of names and indexes with dots between them; None when nothing does."""
    return _value(document, path.split("."))


def _as_text(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
