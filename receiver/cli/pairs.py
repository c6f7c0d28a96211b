"""An order's input, as it is written on a command line: JSON, and `key=value` pairs laid over it. Pure."""

from collections.abc import Sequence

import click
import msgspec


def read_input(text: str | None, body: bytes | None, pairs: Sequence[str]) -> dict[str, object]:
    """The input in `--input` or `--body`, with the pairs over it. Raises UsageError."""
    if text is not None and body is not None:
        raise click.UsageError("give --input or --body, not both")
    given = _object(text.encode(errors="replace") if text is not None else body)
    return given | read_pairs(pairs)


def read_pairs(pairs: Sequence[str]) -> dict[str, object]:
    """`key=value` pairs as an object; a key that is repeated, or written `key[]`, is a list. Raises UsageError."""
    found: dict[str, list[object]] = {}
    lists: set[str] = set()
    for pair in pairs:
        key, separator, text = pair.partition("=")
        name = key.removesuffix("[]")
        if not separator or not name:
            raise click.UsageError(f"expected KEY=VALUE, got {pair[:80]!r}")
        if name != key or name in found:
            lists.add(name)
        found.setdefault(name, []).append(_value(text))
    return {name: values if name in lists else values[0] for name, values in found.items()}


def _value(text: str) -> object:
    """JSON when it is JSON, else the text itself."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text
    except UnicodeEncodeError:
        raise click.UsageError(f"not UTF-8: {text[:80]!r}") from None


def _object(text: bytes | None) -> dict[str, object]:
    if text is None:
        return {}
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"the input is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError("the input must be a JSON object")
    return value
