"""Masks what must not be read, callback tokens and known secrets, before anything is kept, logged or shown. Pure."""

import re
from collections.abc import Iterable

import msgspec

from receiver.records import Json, JsonObject

CALLBACK = re.compile(r"(callbacks\\?/)[^\s\"'<>\\/?#]+")
SIGNED = re.compile(r"(?<![A-Za-z0-9_\-])[A-Za-z0-9_\-]{16,400}\.[A-Za-z0-9_\-]{43}(?![A-Za-z0-9_\-])")
"""A token without its URL: any payload with a SHA-256 signature in URL-safe base64."""
MASK = "[secret]"
SHORTEST = 6
"""Shorter secrets would mask ordinary words."""


def _written(secret: str) -> set[str]:
    """How a secret may stand in a text: as it is, and escaped within JSON."""
    escaped = msgspec.json.encode(secret).decode()[1:-1]
    return {secret, escaped, escaped.replace("/", "\\/")}


class Redactor:
    """Knows the secrets of a running server."""

    def __init__(self, secrets: Iterable[str | None]) -> None:
        forms = {form for secret in secrets if secret and len(secret) >= SHORTEST for form in _written(secret)}
        known = sorted(forms, key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, known))) if known else None

    def text(self, text: str) -> str:
        """The text with every secret masked, and lone surrogates, which nothing can store, written as escapes."""
        text = text.encode("utf-8", "backslashreplace").decode()
        if self._secrets is not None:
            text = self._secrets.sub(MASK, text)
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
