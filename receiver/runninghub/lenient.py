"""Reads what the provider itself answered, when no strict reader can: a field that nobody needs may hold anything.

A stranger's bytes are never read so. What cannot be kept as it is gives way: a broken character to a replacement, a
number that is none to null, what is nested too deeply to null.
"""

import json
import math
import re

import msgspec

from receiver.model.records import Json

DEPTH = 60
"""Levels that are kept; what we need of an answer lies on the first three."""
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
TEXTS = ("eventData",)
"""Fields whose text is JSON of its own."""


def mended(body: bytes) -> bytes | None:
    """The body as sound JSON; None when it is no JSON whatever is forgiven."""
    text = body.decode("utf-8-sig", errors="replace").strip("\x00 \t\r\n")
    try:
        found = json.loads(_shallow(text), strict=False, parse_constant=lambda _: None, parse_int=_number)
        return msgspec.json.encode(_sound(found))
    except (ValueError, RecursionError):
        return None


def _shallow(text: str) -> str:
    """The text with null for whatever is nested deeper than `DEPTH`."""
    kept, depth, copied = [], 0, 0
    for token in TOKEN.finditer(text):
        if token[0] in "[{":
            depth += 1
            if depth == DEPTH + 1:
                kept += [text[copied : token.start()], "null"]
        elif token[0] in "]}":
            if depth == DEPTH + 1:
                copied = token.end()
            depth -= 1
    return "".join([*kept, text[copied:]])


def _sound(value: object) -> Json:
    if isinstance(value, dict):
        return {_text(name): _sound(_inner(name, each)) for name, each in value.items()}
    if isinstance(value, list):
        return [_sound(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return _text(value) if isinstance(value, str) else value  # type: ignore[return-value]  # a number, a flag or null


def _number(digits: str) -> int | str:
    return int(digits) if len(digits) < 20 else digits


def _inner(name: str, value: object) -> object:
    """A text that is JSON of its own, mended as well."""
    inner = mended(value.encode(errors="replace")) if name in TEXTS and isinstance(value, str) else None
    return value if inner is None else inner.decode()


def _text(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", "")
