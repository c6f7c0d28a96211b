"""Listening to what changes: through restarts of the server, and by asking where a stream cannot be had."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Self

import httpx
import msgspec
from msgspec import Struct

from receiver.client.patience import AWAY, USUAL
from receiver.client.transport import (
    CONNECT_TIMEOUT,
    ApiError,
    Transport,
    Unreachable,
    error_of,
    pauses,
    translated,
)
from receiver.model.errors import ReceiverError
from receiver.model.streaming import RESET, SILENCE, ChangeView

NO_STREAM = AWAY | {404}
"""Answers after which one can only ask: there is no place, or a server that has no stream yet."""
TRIED_AGAIN = 15.0
"""Seconds of asking after which the stream is tried again."""
GOING = 0.5
"""Seconds for which a listener is waited for that was told to end; one that cannot connect just now takes longer."""
ASKED_BESIDE = 15.0
"""Seconds between two questions of one who listens: nothing should be missed, and if it is, not for long."""
HEADERS = {"accept": "text/event-stream", "accept-encoding": "identity", "cache-control": "no-store"}


class Change(Struct, frozen=True, kw_only=True):
    """A row of a `kind` (task, action, delivery, alert or replay) came to a state; `place` is where the stream is then.

    The kind `reset` says that anything may have changed: look anew at what you show.
    """

    kind: str
    id: str = ""
    state: str = ""
    place: str = ""


class Changes:
    """What changes, as an iterator without an end. It begins with a `reset`, unless it begins `after` a place.

    Another thread may close it. Where the stream cannot be had it is a `reset` every two seconds. Raises Unreachable
    when the server is away for `patience` seconds, and ApiError for what it refuses; `on_away` is told why it waits.
    """

    def __init__(
        self,
        transport: Transport,
        query: Sequence[tuple[str, str]],
        after: str,
        *,
        patience: float,
        on_away: Callable[[str], None],
        clock: Callable[[], float],
        pause: Callable[[float], object] | None,
    ) -> None:
        self.place = after
        """Where it is: what comes next is what is told `after` this."""
        self.live = False
        """Whether changes come by themselves now."""
        self._transport = transport
        self._query = query
        self._patience = patience
        self._on_away = on_away
        self._clock = clock
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._network: httpx.Response | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def closed(self) -> bool:
        return self._closed.is_set()

    def close(self) -> None:
        self._closed.set()
        stream = self._network.extensions.get("network_stream") if self._network else None
        peer = stream.get_extra_info("socket") if stream is not None else None
        if peer is not None:
            with suppress(OSError):
                peer.shutdown(2)  # whoever waits for the next byte wakes up

    def __iter__(self) -> Iterator[Change]:
        rests, answered_at, again_at = pauses(), self._clock(), float("-inf")
        while not self.closed:
            try:
                if self._clock() >= again_at:
                    for change in self._connected():
                        yield change
                        rests = pauses()
                    answered_at = self._clock()
                else:
                    yield Change(kind=RESET, place=self.place)
            except ApiError as error:
                if error.status not in NO_STREAM:
                    raise
                answered_at = self._clock()
                again_at = answered_at + max(TRIED_AGAIN, error.retry_after or 0.0)
            except Unreachable as error:
                now = self._clock()
                if self.closed:
                    return
                if self.live:
                    answered_at = now
                elif now - answered_at >= self._patience:
                    raise
                self._on_away(error.reason)
            self.live = False
            self._pause(next(rests))

    def _connected(self) -> Iterator[Change]:
        """What one connection tells. Raises ApiError (404) where it is not told as it happens."""
        headers = HEADERS | ({"last-event-id": self.place} if self.place else {})
        http, url = self._transport._http, self._transport.url
        timeout = httpx.Timeout(SILENCE, connect=CONNECT_TIMEOUT)
        with (
            translated(url),
            http.stream("GET", "/api/stream", params=tuple(self._query), headers=headers, timeout=timeout) as answer,
        ):
            if not answer.is_success:
                answer.read()
                raise error_of(answer)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                raise ApiError(404, "no_stream", "what answers there has no stream")
            self._network = answer
            try:
                if not self.closed:
                    yield from self._told(answer)
            except httpx.ReadTimeout:
                if self.live:
                    raise
                raise ApiError(404, "no_stream", "a proxy keeps what the server tells") from None
            finally:
                self._network = None

    def _told(self, answer: httpx.Response) -> Iterator[Change]:
        said: dict[str, str] = {}
        begins = not self.place
        for line in answer.iter_lines():
            self.live = True
            if not line:
                self.place = said.get("id", self.place)
                if begins or "event" in said:
                    yield self._read(RESET if begins else said["event"], said.get("data", ""))
                said, begins = {}, False
            elif line[0] != ":":
                name, _, value = line.partition(":")
                said[name] = value.removeprefix(" ")

    def _read(self, kind: str, data: str) -> Change:
        if kind == RESET:
            return Change(kind=RESET, place=self.place)
        try:
            row = msgspec.json.decode(data, type=ChangeView)
        except (msgspec.DecodeError, UnicodeError):
            message = f"what {self._transport.url} tells is no change; is it a receiver of this version?"
            raise ApiError(200, "unreadable", message) from None
        return Change(kind=kind, id=row.id, state=row.state, place=self.place)


class Streaming(Transport):
    """What changes on the server."""

    def stream(
        self,
        *,
        kind: str | Sequence[str] = (),
        task: str | None = None,
        after: str = "",
        patience: float = USUAL,
        on_away: Callable[[str], None] = lambda why: None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], object] | None = None,
    ) -> Changes:
        """What changes from now on, or `after` a place; of some kinds, and of one task with all that belongs to it."""
        kinds = [kind] if isinstance(kind, str) else kind
        query = [("kind", each) for each in kinds] + ([("task", task)] if task else [])
        return Changes(self, query, after, patience=patience, on_away=on_away, clock=clock, pause=pause)

    @contextmanager
    def _listening(self, task: str) -> Iterator[Callable[[float, float], object]]:
        """Gives a pause that ends as soon as a task has changed; where nothing tells, after the first of two times.

        It never takes longer than the second one.
        """
        rung = threading.Event()
        changes = self.stream(task=task, patience=float("inf"), on_away=lambda _: rung.set())

        def listen() -> None:
            try:
                for _ in changes:
                    rung.set()
            except ReceiverError:
                rung.set()  # whoever waits asks the server, and hears it himself
            except RuntimeError:
                if not changes.closed:  # else the client was closed as well
                    raise

        def pause(seconds: float, most: float) -> None:
            rung.wait(min(most, ASKED_BESIDE if changes.live else seconds))
            rung.clear()

        listener = threading.Thread(target=listen, name="receiver-stream", daemon=True)
        listener.start()
        with changes:
            yield pause
        listener.join(GOING)
