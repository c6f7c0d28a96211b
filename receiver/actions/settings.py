"""What an action of each kind is configured with. Pure: whoever only reads the settings needs no network."""

import base64
import re
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from msgspec import field

from receiver.actions.body import body_problems, secrets_in
from receiver.actions.download.names import template_problem
from receiver.model.definitions import ActionKind, Attempts, Definition, Seconds
from receiver.model.fields import SHOWN, Condition, Setting, more_than_0
from receiver.model.records import Json
from receiver.model.redaction import MASK

HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
SECRET_HEADER = re.compile("auth|token|key|secret|cookie|sign|pass", re.IGNORECASE)


def _template_problems(template: str) -> list[str]:
    problem = template_problem(template)
    return [f"files: {problem}, got {template[:SHOWN]!r}"] if problem else []


def _is_signing_key(secret: str | None) -> bool:
    try:
        return secret is None or bool(base64.b64decode(secret.removeprefix("whsec_"), validate=True))
    except ValueError:
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
_ARGUMENTS = Condition('a list of a program and its arguments, such as ["notify", "--quiet"]', bool)
_FUNCTION = Condition("module:name", re.compile(r"[^:\s]+:[^:\s]+").fullmatch)


class DownloadDefinition(Definition, frozen=True, kw_only=True):
    """Saves every result file below `directory`, under a path made by `files`. `max_size` of a file is in bytes.

    40 attempts, an hour apart at the most, are about as many as fit into the day that result links live.
    """

    kind: ActionKind = ActionKind.DOWNLOAD
    timeout: Seconds = 900.0
    max_attempts: Attempts = 40
    unconfirmed: bool = True
    directory: str = "results"
    files: Annotated[str, Setting(problems=_template_problems)] = "{task}/{name}"
    max_size: Annotated[int, Setting(more_than_0())] = 4 * 1024**3

    def conflict(self, others: Sequence[Definition]) -> str | None:
        """Downloads into one directory name files alike, or one might take the other's file for its own."""
        for other in others:
            if isinstance(other, DownloadDefinition) and _plain(other.directory) == _plain(self.directory):
                alike = other.files == self.files
                return None if alike else f"files: {other.name} names files in {self.directory} otherwise"
        return None


def _plain(directory: str) -> str:
    return directory.removeprefix("./").rstrip("/")


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


class CommandDefinition(Definition, frozen=True, kw_only=True):
    """Runs a program, given as the list of its arguments, never by a shell."""

    kind: ActionKind = ActionKind.COMMAND
    command: Annotated[tuple[str, ...], Setting(_ARGUMENTS)]


class PythonDefinition(Definition, frozen=True, kw_only=True):
    """Calls `function`, given as module:name."""

    kind: ActionKind = ActionKind.PYTHON
    function: Annotated[str, Setting(_FUNCTION)]


DEFINITIONS: dict[ActionKind, type[Definition]] = {
    ActionKind.DOWNLOAD: DownloadDefinition,
    ActionKind.HTTP: HttpDefinition,
    ActionKind.COMMAND: CommandDefinition,
    ActionKind.PYTHON: PythonDefinition,
}
