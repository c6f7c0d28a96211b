"""Keeps the requests that came in and the callbacks that went out, for a test to look at."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    """One request, also when it was then refused. `at` in seconds since 1970."""

    route: str
    method: str
    path: str
    at: float
    body: bytes

    @property
    def document(self) -> Any:  # noqa: ANN401 (whatever JSON the asker sent)
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class SentCallback:
    """One callback that was sent. `status` None means no connection; `attempt` counts from 1 per task."""

    url: str
    body: bytes
    at: float
    status: int | None
    task_id: str
    attempt: int

    @property
    def document(self) -> Any:  # noqa: ANN401 (a junk callback may hold anything)
        """The body read as JSON."""
        return json.loads(self.body)


@dataclass
class Ledger:
    """Requests and callbacks in the order in which they were noted."""

    requests: list[Request] = field(default_factory=list)
    callbacks: list[SentCallback] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def note_request(self, request: Request) -> None:
        self.requests.append(request)
        self.counts[request.route] += 1
