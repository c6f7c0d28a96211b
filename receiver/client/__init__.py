"""The typed, synchronous client of our own API: what `receiver` on the command line uses, and what programs import.

with Client("http://127.0.0.1:8000", token) as client:
    task = client.submit("alibaba/qwen-image-2.0/text-to-image", {"prompt": "a lighthouse"})
    print(client.wait(task.id).results)
"""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from receiver.client.files import Files, Saved
from receiver.client.ledger import Ledger
from receiver.client.provider import Provider
from receiver.client.proving import Proving, Unproved
from receiver.client.stream import Change, Changes
from receiver.client.tasks import ENDED, Tasks, has_ended
from receiver.client.transport import ApiError, ListFilter, Progress, Unreachable, error_of
from receiver.model.views import OverviewView
from receiver.model.views import PageView as Listed

__all__ = [
    "ENDED",
    "ApiError",
    "Change",
    "Changes",
    "Client",
    "ListFilter",
    "Listed",
    "Progress",
    "Proving",
    "Readiness",
    "Saved",
    "Unproved",
    "Unreachable",
    "has_ended",
]


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether the server can do its work; `reasons` are codes, empty when it is ready."""

    status: str
    reasons: list[str]


class Client(Tasks, Ledger, Provider, Files):
    """One server's API. Every method raises ApiError for a refusal and Unreachable when nobody answers.

    `timeout` in seconds is how long an answer may take; `transport` replaces the network.
    """

    def ready(self) -> Readiness:
        """Whether the server can do its work; being unready is an answer, no error."""
        answer = self._exchange(self._http.build_request("GET", "/readyz"))
        if answer.status_code not in (200, 503):
            raise error_of(answer)
        return self._read(answer, Readiness)

    def status(self) -> OverviewView:
        """How the server stands: what waits, what is wrong, and what to do about it."""
        return self._call("GET", OverviewView, "status")

    def backup(self, path: Path, on_progress: Progress | None = None, *, overwrite: bool = False) -> int:
        """Copies the server's database to a file of mode 0600 and returns its size in bytes.

        The file appears under its name when it is whole. `on_progress` is told the bytes so far, and of how many when
        the server says it. Raises FileExistsError unless `overwrite`, and OSError.
        """
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already")
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                size = self._download("/api/backup", file.write, on_progress)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            with suppress(FileNotFoundError):
                Path(temporary).unlink()
            raise
        return size
