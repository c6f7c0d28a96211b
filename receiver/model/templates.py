"""Texts with places: `{name}` is filled, `{{` and `}}` are braces. Pure."""

import re
from collections.abc import Callable

from receiver.model.errors import ReceiverError

PLACE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class LoneBrace(ReceiverError):
    """A brace that belongs to no place."""


def fill(text: str, value_of: Callable[[str], str]) -> str:
    """The text with every place filled by what `value_of` says of its name. What is filled in is no template itself.

    Raises LoneBrace, and what `value_of` raises.
    """

    def one(found: re.Match[str]) -> str:
        if found[0] in ("{{", "}}"):
            return found[0][0]
        if found[1] is None:
            raise LoneBrace(f"a lone {found[0]}; write {found[0] * 2} for a brace")
        return value_of(found[1])

    return PLACE.sub(one, text)


def places(text: str) -> list[str]:
    """The names in a template's places, in their order. Raises LoneBrace."""
    fill(text, str)
    return [found[1] for found in PLACE.finditer(text) if found[1] is not None]
