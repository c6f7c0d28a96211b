"""An order's input, as it is written on a command line: JSON, and `key=value` pairs laid over it. Pure."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import click
import msgspec

from receiver.model.records import Json, JsonObject
from receiver.orders.repeats import TWICE, repeated_key
from receiver.runninghub.wire import BOM, Unreadable, decode_json

Reader: TypeAlias = Callable[[str, str | Sequence[str]], Json]
"""What texts mean for a key: one text, or several where the key was repeated or written as a list."""


def read_input(text: str | None, body: bytes | None, pairs: Sequence[str], read: Reader | None = None) -> JsonObject:
    """The input in `--input` or `--body`, with the pairs over it. Raises UsageError.

    `read` knows the types of a model's parameters; without it what is JSON is JSON, and all else is text.
    """
    if text is not None and body is not None:
        raise click.UsageError("give --input or --body, not both")
    given = _json_object(text.encode(errors="replace") if text is not None else body)
    return given | read_pairs(pairs, read or untyped)


def read_pairs(pairs: Sequence[str], read: Reader) -> JsonObject:
    """`key=value` pairs as an object; a key that is repeated, or written `key[]`, is a list. Raises UsageError."""
    found: dict[str, list[str]] = {}
    lists: set[str] = set()
    for pair in pairs:
        key, separator, text = pair.partition("=")
        name = key.removesuffix("[]")
        if not separator or not name:
            raise click.UsageError(f"expected KEY=VALUE, got {pair[:80]!r}")
        if name != key or name in found:
            lists.add(name)
        found.setdefault(name, []).append(_utf8(text))
    return {name: read(name, texts if name in lists else texts[0]) for name, texts in found.items()}


def read_nodes(nodes: Sequence[str]) -> list[JsonObject]:
    """`NODE.FIELD=VALUE` overrides as the provider's nodeInfoList. Raises UsageError."""
    found: list[JsonObject] = []
    for text in nodes:
        place, separator, value = text.partition("=")
        node, dot, field = place.partition(".")
        if not (separator and dot and node and field):
            raise click.UsageError(f"expected NODE.FIELD=VALUE, such as 6.text=..., got {text[:80]!r}")
        found.append({"nodeId": node, "fieldName": field, "fieldValue": json_or_text(_utf8(value))})
    return found


def untyped(_: str, text: str | Sequence[str]) -> Json:
    """JSON where it is JSON, and text where it is not."""
    return json_or_text(text) if isinstance(text, str) else [json_or_text(each) for each in text]


def _utf8(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise click.UsageError(f"not UTF-8: {text[:80]!r}") from None
    return text


def json_or_text(text: str) -> Json:
    """JSON when it is JSON, else the text itself."""
    try:
        value: Json = msgspec.json.decode(text)
        return value
    except (msgspec.DecodeError, RecursionError):
        return text


def _json_object(text: bytes | None) -> JsonObject:
    if text is None:
        return {}
    try:
        value = decode_json(text.removeprefix(BOM))
    except Unreadable as problem:
        raise click.UsageError(f"the input is {problem}") from None
    if not isinstance(value, dict):
        raise click.UsageError("the input must be a JSON object")
    if (name := repeated_key(text)) is not None:
        raise click.UsageError(f"{name[:80]!r} in the input: {TWICE}")
    return value
