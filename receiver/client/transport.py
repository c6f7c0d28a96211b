"""How the client speaks to a server: requests, answers, and the two ways in which that fails."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from datetime import datetime
from threading import Thread
from time import monotonic
from typing import Self, TypeAlias, TypedDict, TypeVar
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from receiver.model.deeds import DOOR_HEADER
from receiver.model.errors import ReceiverError
from receiver.model.retry_after import seconds_asked
from receiver.model.views import ErrorDocument

T = TypeVar("T")

Query: TypeAlias = Sequence[tuple[str, str | int]]
Progress = Callable[[int, int | None], None]
"""Is told the bytes so far, and of how many where that is known."""
FIRST_PAUSE = 0.2
PAUSE_FACTOR = 1.5
LONGEST_PAUSE = 2.0
CONNECT_TIMEOUT = 5.0
PATIENCES = 2
"""An exchange may take so many times the time that one wait of it may take."""
DRIP = 1024
"""Bytes a second; a download that is slower on the whole is given up."""
LOOK_AGAIN = 0.5
"""Seconds between two looks at how much time there is, while it may grow."""
ERRNO = re.compile(r"\[Errno -?\d+\] ")
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


def pauses() -> Iterator[float]:
    """Seconds between two questions about the same thing, ever longer up to a bound, without an end."""
    rest = FIRST_PAUSE
    while True:
        yield rest
        rest = min(LONGEST_PAUSE, rest * PAUSE_FACTOR)


class ApiError(ReceiverError):
    """The server's refusal as the API gives it; `retry_after` is in seconds, None when it does not say when to come."""

    def __init__(
        self, status: int, code: str, message: str, details: object = None, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details
        self.retry_after = retry_after


class Unreachable(ReceiverError):
    """No server answered at this URL, or it fell silent in the middle."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
        self.reason = reason


class ListFilter(TypedDict, total=False):
    """What a list is narrowed to; what a list does not know it refuses (400). Times as RFC 3339, or as datetime; a
    datetime without a zone is UTC."""

    state: str | Sequence[str]
    kind: str | Sequence[str]
    target: str | None
    label: Mapping[str, str]
    q: str | None
    task: str | None
    name: str | None
    verb: str | None
    since: str | datetime | None
    until: str | datetime | None
    limit: int | None
    cursor: str | None
    after: str | None
    before: str | None


class Transport:
    """A server's URL, the token for it, and the connections there. With `proving` that decides who gets the token.

    `door` says for the audit by what a person does this: `cli` for the command line.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 30.0,
        transport: httpx.BaseTransport | None = None,
        proving: httpx.Auth | None = None,
        door: str | None = None,
    ) -> None:
        if token is not None and not token.isprintable():
            raise ValueError("the token has characters that no header can carry")  # httpx would quote it
        self.url = url.rstrip("/")
        self._timeout = timeout
        parts = urlsplit(url)
        local = parts.hostname in THIS_MACHINE
        self._http = httpx.Client(
            base_url=self.url,
            headers={
                **({b"authorization": f"Bearer {token}".encode()} if token else {}),
                **({DOOR_HEADER.encode(): door.encode()} if door else {}),
            },
            auth=proving,
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
            transport=transport,
            # A proxy for the world outside must not be asked for a server on this machine.
            trust_env=not local,
            # Reading all certificate authorities takes longer than most requests; here nothing is encrypted (measured).
            verify=not (local and parts.scheme == "http"),
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def _list(self, kind: type[T], name: str, narrow: ListFilter) -> T:
        return self._call("GET", kind, name, query=_query(narrow))

    def _call(
        self,
        method: str,
        kind: type[T],
        *path: str | int,
        body: Mapping[str, object] | None = None,
        query: Query = (),
        headers: Mapping[bytes, bytes] | None = None,
    ) -> T:
        """What is answered below /api at a path of these parts, whatever characters they have."""
        url = "/".join(["/api", *(quote(str(part), safe="") for part in path)])
        content = None if body is None else msgspec.json.encode(body)
        request = self._http.build_request(method, url, content=content, params=tuple(query), headers=headers)
        return self._read(self._send(request), kind)

    def _exchange(self, request: httpx.Request) -> httpx.Response:
        """Whatever is answered. Raises Unreachable."""
        most = PATIENCES * float(request.extensions["timeout"]["read"])
        with translated(self.url):
            return within(lambda: most, lambda: self._http.send(request))

    def _send(self, request: httpx.Request) -> httpx.Response:
        answer = self._exchange(request)
        if not answer.is_success:
            raise error_of(answer)
        return answer

    def _download(
        self,
        path: str,
        write: Callable[[bytes], object],
        on_progress: Progress | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        begin: Callable[[httpx.Response], int] = lambda answer: 0,
    ) -> int:
        """Writes an answer's content as it comes, and returns the size of all; `begin` says how much was there."""
        size = 0

        def take() -> int:
            nonlocal size
            with self._http.stream("GET", path, headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                    raise error_of(answer)
                before = begin(answer)
                length = answer.headers.get("content-length", "")
                total = before + int(length) if length.isdigit() else None
                for chunk in answer.iter_bytes():  # as they come: what was gathered for a larger piece would be lost
                    write(chunk)
                    size += len(chunk)
                    if on_progress is not None:
                        on_progress(before + size, total)
            return before + size

        with translated(self.url):
            return within(lambda: PATIENCES * self._timeout + size / DRIP, take)

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = f"what answers at {self.url} does not speak this API; is it a receiver of this version?"
            raise ApiError(answer.status_code, "unreadable", message) from None


def within(seconds: Callable[[], float], work: Callable[[], T]) -> T:
    """What `work` returns or raises, from a thread that is left behind when it takes longer than `seconds`, which may
    grow. httpx bounds each wait, but not a whole exchange: a peer that drips would hold it for ever.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    begun = monotonic()
    Thread(target=run, name="receiver-exchange", daemon=True).start()
    while (left := seconds() - (monotonic() - begun)) > 0:
        if wait([done], min(left, LOOK_AGAIN)).done:
            return done.result()
    raise httpx.ReadTimeout("it took too long")


def _query(narrow: ListFilter) -> Query:
    query: list[tuple[str, str]] = []
    for name, value in narrow.items():
        if isinstance(value, Mapping):
            value = [f"{key}={text}" for key, text in value.items()]
        elif isinstance(value, datetime):
            value = value.isoformat()
        several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        query += [(name, str(each)) for each in several if each is not None]
    return query


@contextmanager
def translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        waited = "it takes no connection" if isinstance(error, httpx.ConnectTimeout) else "it took too long"
        raise Unreachable(url, waited) from error
    except (httpx.RequestError, httpx.InvalidURL) as error:
        raise Unreachable(url, ERRNO.sub("", str(error)) or type(error).__name__) from error


def error_of(answer: httpx.Response) -> ApiError:
    retry_after = seconds_asked(answer.headers.get("retry-after", ""), date=answer.headers.get("date", ""))
    try:
        error = msgspec.json.decode(answer.content, type=ErrorDocument).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = f"{answer.status_code} {answer.reason_phrase}".strip()
        place = f"{answer.request.url.scheme}://{answer.request.url.netloc.decode()}"
        message = f"{place} answers {status}; is it a receiver?"
        return ApiError(answer.status_code, "http_error", message, retry_after=retry_after)
    return ApiError(answer.status_code, error.code, error.message, error.details, retry_after=retry_after)
