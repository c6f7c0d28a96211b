"""Says what is kept of the requests that came in and the callbacks that went out, for a test to look at."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Noted:
    """A body and when it was sent, in seconds since 1970."""

    at: float
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 (whatever JSON was sent)
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Request(Noted):
    """One request, also when it was then refused."""

    route: str
    method: str
    path: str


@dataclass(frozen=True)
class SentCallback(Noted):
    """One callback that was sent. `status` None means no connection; `attempt` counts from 1 per task."""

    url: str
    status: int | None
    task_id: str
    attempt: int
