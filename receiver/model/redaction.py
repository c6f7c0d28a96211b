"""Masks what must not be read, callback tokens and known secrets, before anything is kept, logged or shown. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from receiver.model.records import Json, JsonObject

T = TypeVar("T")

CALLBACK = re.compile(r"(callbacks\\?/)[^\s\"'<>\\/?#]+")
SIGNED = re.compile(r"(?<![A-Za-z0-9_\-])[A-Za-z0-9_\-]{16,400}\.[A-Za-z0-9_\-]{43}(?![A-Za-z0-9_\-])")
"""A token without its URL: any payload with a SHA-256 signature in URL-safe base64."""
MASK = "[secret]"
SHORTEST = 6
"""Shorter secrets would mask ordinary words."""
SHORTEST_CUT = 8
"""Shorter parts of a secret, such as `whsec_` and `Bearer`, say nothing of it."""


SECRET_INPUTS = frozenset({"accessPassword"})


def shown_input(given: Mapping[str, T]) -> dict[str, T | str]:
    """A task's input without what opens somebody's workflow."""
    return {name: MASK if name in SECRET_INPUTS and value else value for name, value in given.items()}


def _spellings(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, and escaped within JSON."""
    escaped = msgspec.json.encode(secret).decode()[1:-1]
    return {secret, escaped, escaped.replace("/", "\\/")}


def _without_cut_secret(text: str, secret: str) -> str:
    """Of an output only the first or last bytes are kept, and that cut may go through a secret."""
    sizes = range(len(secret) - 1, SHORTEST_CUT - 1, -1)
    if secret[:SHORTEST_CUT] in text:
        cut = next((size for size in sizes if text.endswith(secret[:size])), 0)
        text = text[:-cut] + MASK if cut else text
    if secret[-SHORTEST_CUT:] in text:
        cut = next((size for size in sizes if text.startswith(secret[-size:])), 0)
        text = MASK + text[cut:] if cut else text
    return text


class Redactor:
    """Knows the secrets of a running server."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        self._known: list[str] = []
        self.learn(secrets)

    def learn(self, secrets: Iterable[str | None]) -> None:
        """These are masked too from now on."""
        forms = {form for secret in secrets if secret and len(secret) >= SHORTEST for form in _spellings(secret)}
        self._known = sorted(forms.union(self._known), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, self._known))) if self._known else None

    def text(self, text: str) -> str:
        """The text with every secret masked, and lone surrogates, which nothing can store, written as escapes."""
        text = text.encode("utf-8", "backslashreplace").decode()
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
        for secret in self._known:
            if len(secret) > SHORTEST_CUT:
                text = _without_cut_secret(text, secret)
        text = CALLBACK.sub(rf"\g<1>{MASK}", text)
        return SIGNED.sub(MASK, text)

    def body(self, body: bytes) -> str:
        """Raw bytes as text, masked; what is no UTF-8 is replaced."""
        return self.text(body.decode("utf-8", "replace").replace("\x00", ""))

    def data(self, data: JsonObject) -> JsonObject:
        """A JSON object with every text in it masked."""
        return {self.text(name): self._masked(value) for name, value in data.items()}

    def _masked(self, value: Json) -> Json:
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return self.data(value)
        if isinstance(value, list):
            return [self._masked(item) for item in value]
        return value
