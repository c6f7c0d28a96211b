"""The endpoint of an http action, which is as unwell as it is told to be, and remembers what it took."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send


class Hook:
    """Takes what comes, unless its `mood` is another; poisoned events it never takes.

    `heard` has the events that were answered 200, the last of each task.
    """

    MOODS = ("unwell", "throttled", "breaks off", "slow")

    def __init__(self) -> None:
        self.mood = ""
        self.heard: dict[str, dict[str, Any]] = {}

    @contextmanager
    def as_told(self, mood: str) -> Iterator[None]:
        self.mood = mood
        try:
            yield
        finally:
            self.mood = ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        event = json.loads(await Request(scope, receive).body())
        if self.mood == "slow":
            await asyncio.sleep(1)
        poisoned = is_poisoned(event["task"]["id"])
        status = 500 if poisoned else {"unwell": 500, "throttled": 429}.get(self.mood, 200)
        if status == 200:
            self.heard[event["task"]["id"]] = event
        if self.mood == "breaks off":
            # Its status was said: whether that counts as taken is the receiver's affair.
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
            await send({"type": "http.response.body", "body": b"{", "more_body": True})
            return
        headers = {"Retry-After": "1"} if status == 429 else {}
        await JSONResponse({}, status, headers)(scope, receive, send)


def is_poisoned(task_id: str) -> bool:
    """Whether the endpoint breaks on the events of a task: one in 32."""
    return int(task_id[-2:], 16) % 32 == 0
