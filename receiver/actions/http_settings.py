"""What an action that posts the event is configured with. Pure."""

import base64
import binascii
import re
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import field

from receiver.actions.body import body_problems, secrets_in
from receiver.model.definitions import ActionKind, Definition, Seconds
from receiver.model.fields import SHOWN, Condition, Setting
from receiver.model.records import Json
from receiver.model.redaction import MASK

HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
SECRET_HEADER = re.compile("auth|token|key|secret|cookie|sign|pass", re.IGNORECASE)


def _is_signing_key(secret: str | None) -> bool:
    try:
        return secret is None or bool(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except (binascii.Error, ValueError):
        return False


def _url_problems(url: str) -> list[str]:
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname:
            return []
    except ValueError:
        pass
    return [f"url: expected {_ADDRESS.expected}, got {MASK if '@' in url else repr(url)[:SHOWN]}"]


def _header_problems(headers: dict[str, str]) -> list[str]:
    return [
        f"headers: {name!r}: expected printable characters, got {MASK}"
        for name, text in headers.items()
        if not (HEADER.fullmatch(name) and text.isprintable())
    ]


_ADDRESS = Condition("an http:// or https:// address", bool)
_SIGNING_KEY = Condition("base64, with or without whsec_ before it", _is_signing_key)


class HttpDefinition(Definition, frozen=True, kw_only=True):
    """Posts the event to `url`, or a `body` made of it; signed when there is a `secret`."""

    kind: ActionKind = ActionKind.HTTP
    timeout: Seconds = 30.0
    url: Annotated[str, Setting(_ADDRESS, problems=_url_problems)]
    secret: Annotated[str | None, Setting(_SIGNING_KEY, secret=True)] = None
    headers: Annotated[dict[str, str], Setting(secret=True, problems=_header_problems)] = field(default_factory=dict)
    body: Annotated[Json, Setting(problems=body_problems, raw=True)] = None

    def secrets(self) -> list[str]:
        """A Content-Type is no secret; what follows `Bearer` is one."""
        headers = [text for name, text in self.headers.items() if SECRET_HEADER.search(name)]
        words = [text.rpartition(" ")[2] for text in headers]
        return [*([self.secret] if self.secret else []), *headers, *words, *secrets_in(self.body)]
