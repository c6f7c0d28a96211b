"""The typed, synchronous client of our own API: what `receiver` on the command line uses, and what programs import.

with Client("http://127.0.0.1:8000", token) as client:
    task = client.submit("alibaba/qwen-image-2.0/text-to-image", {"prompt": "a lighthouse"})
    print(client.wait(task.id).results)
"""

import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Protocol, Self, TypedDict, TypeVar, Unpack
from urllib.parse import quote, urlsplit

import httpx
import msgspec
from msgspec import Struct

from receiver.errors import ReceiverError
from receiver.offers import AppView, PreviewView, UploadView
from receiver.records import Account
from receiver.views import (
    ActionView,
    AlertView,
    DefinitionView,
    DeliveryPage,
    ErrorDocument,
    EventView,
    ModelRow,
    ModelView,
    OrderedView,
    PageView,
    ReplayView,
    TaskDetail,
    TaskView,
)

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

ENDED = frozenset({"succeeded", "failed", "cancelled", "rejected", "lost"})
"""States in which waiting for a task is over."""
FIRST_PAUSE = 0.2
PAUSE_FACTOR = 1.5
LONGEST_PAUSE = 2.0
CONNECT_TIMEOUT = 5.0
UPLOAD_PATIENCE = 600.0
"""Seconds for the answer to an upload, which comes when the provider has stored it."""
CHUNK = 64 * 1024
ERRNO = re.compile(r"\[Errno -?\d+\] ")
THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class ApiError(ReceiverError):
    """The server's refusal: HTTP status, code, message and details as the API gives them."""

    def __init__(self, status: int, code: str, message: str, details: object = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.details = details


class Unreachable(ReceiverError):
    """No server answered at this URL, or it fell silent in the middle."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"no answer from {url}: {reason}")
        self.url = url
        self.reason = reason


class Readiness(Struct, frozen=True, kw_only=True):
    """Whether the server can do its work; `reasons` are codes, empty when it is ready."""

    status: str
    reasons: list[str]


class ListFilter(TypedDict, total=False):
    """What a list is narrowed to. Times as RFC 3339, or as datetime; a datetime without a zone is UTC."""

    state: str | Sequence[str]
    kind: str | Sequence[str]
    target: str | None
    label: Mapping[str, str]
    q: str | None
    task: str | None
    name: str | None
    since: str | datetime | None
    until: str | datetime | None
    limit: int | None
    cursor: str | None


class Listed(Protocol[T_co]):
    """A page of anything."""

    @property
    def items(self) -> Sequence[T_co]: ...
    @property
    def next(self) -> str | None: ...


def has_ended(task: TaskView) -> bool:
    """Whether nothing more is waited for; even a lost task may still be heard of."""
    return task.state in ENDED


class Client:
    """One server's API. Every method raises ApiError for a refusal and Unreachable when nobody answers.

    `timeout` in seconds is how long an answer may take; `transport` replaces the network.
    """

    def __init__(
        self, url: str, token: str | None, *, timeout: float = 30.0, transport: httpx.BaseTransport | None = None
    ) -> None:
        if token is not None and not token.isprintable():
            raise ValueError("the token has characters that no header can carry")  # httpx would quote it
        self.url = url.rstrip("/")
        parts = urlsplit(url)
        local = parts.hostname in THIS_MACHINE
        self._http = httpx.Client(
            base_url=self.url,
            headers={b"authorization": f"Bearer {token}".encode()} if token else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, CONNECT_TIMEOUT)),
            transport=transport,
            # A proxy for the world outside must not be asked for a server on this machine.
            trust_env=not local,
            # Reading all certificate authorities takes longer than most requests; here nothing is encrypted (measured).
            verify=not (local and parts.scheme == "http"),
        )

    def __repr__(self) -> str:
        return f"Client({self.url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # ------------------------------------------------------------ tasks

    def submit(
        self,
        target: str,
        input: Mapping[str, object],
        *,
        kind: str = "model",
        api: str | None = None,
        validate: bool = True,
        labels: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> OrderedView:
        """Orders a task. With an idempotency key, the same order again is the same task.

        `api` is v1 or v2 (None: the usual one of the kind); without `validate` a model's input is not checked.
        """
        body = _order(kind, target, input, labels or {}, api, validate=validate)
        headers = {} if idempotency_key is None else {b"idempotency-key": idempotency_key.encode()}
        return self._call("POST", "/api/tasks", OrderedView, body=body, headers=headers)

    def preview(
        self,
        target: str,
        input: Mapping[str, object],
        *,
        kind: str = "model",
        api: str | None = None,
        validate: bool = True,
        labels: Mapping[str, str] | None = None,
    ) -> PreviewView:
        """The order as it would be sent, and its price. Nothing is ordered."""
        body = _order(kind, target, input, labels or {}, api, validate=validate)
        return self._call("POST", "/api/previews", PreviewView, body=body)

    def task(self, task_id: str) -> TaskDetail:
        return self._call("GET", f"/api/tasks/{_part(task_id)}", TaskDetail)

    def tasks(self, **narrow: Unpack[ListFilter]) -> PageView[TaskView]:
        return self._list("tasks", PageView[TaskView], narrow)

    def each(self, page: Callable[..., Listed[T]], **narrow: Unpack[ListFilter]) -> Iterator[T]:
        """Everything of a list, page after page: `client.each(client.tasks, state="failed")`."""
        while True:
            found = page(**narrow)
            yield from found.items
            if found.next is None:
                return
            narrow["cursor"] = found.next

    def wait(
        self,
        task_id: str,
        *,
        until: Callable[[TaskDetail], bool] = has_ended,
        on_change: Callable[[TaskDetail], None] | None = None,
        timeout: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> TaskDetail:
        """Asks about a task, less and less often, until it has ended. `on_change` sees every new state.

        Raises TimeoutError after `timeout` seconds; the task goes on.
        """
        begun = clock()
        seen: tuple[str, str | None] | None = None
        rest = FIRST_PAUSE
        while True:
            task = self.task(task_id)
            if on_change is not None and seen != (task.state, task.provider_status):
                seen = (task.state, task.provider_status)
                on_change(task)
            if until(task):
                return task
            if timeout is not None and clock() - begun >= timeout:
                raise TimeoutError(f"task {task_id} is still {task.state} after {timeout:g} s")
            pause(rest)
            rest = min(LONGEST_PAUSE, rest * PAUSE_FACTOR)

    def reconcile(self, task_id: str) -> TaskDetail:
        """Asks the provider about the task now."""
        return self._on_task(task_id, "reconcile", TaskDetail)

    def resend(self, task_id: str) -> TaskDetail:
        """Has the provider send the task's callback again."""
        return self._on_task(task_id, "resend", TaskDetail)

    def cancel(self, task_id: str) -> TaskDetail:
        return self._on_task(task_id, "cancel", TaskDetail)

    def submit_again(self, task_id: str) -> OrderedView:
        """A new task with the same order."""
        return self._on_task(task_id, "submit-again", OrderedView)

    # ------------------------------------------------------------ what came, and what was done

    def deliveries(self, **narrow: Unpack[ListFilter]) -> DeliveryPage:
        return self._list("deliveries", DeliveryPage, narrow)

    def delivery_body(self, delivery_id: int) -> bytes:
        """A callback's raw bytes, as they came."""
        return self._send(self._http.build_request("GET", f"/api/deliveries/{delivery_id}/body")).content

    def events(self, **narrow: Unpack[ListFilter]) -> PageView[EventView]:
        return self._list("events", PageView[EventView], narrow)

    def alerts(self, **narrow: Unpack[ListFilter]) -> PageView[AlertView]:
        return self._list("alerts", PageView[AlertView], narrow)

    def actions(self, **narrow: Unpack[ListFilter]) -> PageView[ActionView]:
        return self._list("actions", PageView[ActionView], narrow)

    def action(self, action_id: int) -> ActionView:
        """An action with its tries, which a list leaves out."""
        return self._call("GET", f"/api/actions/{action_id}", ActionView)

    def retry(self, action_id: int) -> ActionView:
        return self._call("POST", f"/api/actions/{action_id}/retry", ActionView)

    def skip(self, action_id: int) -> ActionView:
        return self._call("POST", f"/api/actions/{action_id}/skip", ActionView)

    def definitions(self) -> PageView[DefinitionView]:
        return self._call("GET", "/api/definitions", PageView[DefinitionView])

    def pause(self, name: str) -> DefinitionView:
        return self._call("POST", f"/api/definitions/{_part(name)}/pause", DefinitionView)

    def resume(self, name: str) -> DefinitionView:
        return self._call("POST", f"/api/definitions/{_part(name)}/resume", DefinitionView)

    # ------------------------------------------------------------ replays

    def replay(
        self,
        filter: Mapping[str, object] | None = None,
        *,
        mode: str = "retry",
        dry_run: bool = False,
        rate: float | None = None,
    ) -> ReplayView:
        """Owes actions again. `rate` in actions per second; a dry run only counts."""
        body = {"filter": filter or {}, "mode": mode, "dry_run": dry_run, "rate": rate}
        return self._call("POST", "/api/replays", ReplayView, body=body)

    def replay_state(self, replay_id: int) -> ReplayView:
        return self._call("GET", f"/api/replays/{replay_id}", ReplayView)

    def cancel_replay(self, replay_id: int) -> ReplayView:
        return self._call("DELETE", f"/api/replays/{replay_id}", ReplayView)

    # ------------------------------------------------------------ the provider

    def models(self, pattern: str = "") -> PageView[ModelRow]:
        """The models with the pattern in name, endpoint, group or output; * and ? stand for anything."""
        return self._call("GET", "/api/models", PageView[ModelRow], query=[("q", pattern)])

    def model(self, name: str) -> ModelView:
        """A model by any name it is known by."""
        return self._call("GET", f"/api/models/{quote(name)}", ModelView)

    def app(self, app_id: str) -> AppView:
        """An AI app's name and the fields of its nodes."""
        return self._call("GET", f"/api/apps/{_part(app_id)}", AppView)

    def workflow(self, workflow_id: str) -> AppView:
        """The fields of a workflow's nodes."""
        return self._call("GET", f"/api/workflows/{_part(workflow_id)}", AppView)

    def upload(self, path: Path, on_progress: Callable[[int, int | None], None] | None = None) -> UploadView:
        """Brings a file to the provider, unless it was there within a day; its id may stand in orders for a file.

        `on_progress` is told the bytes sent so far, and of how many. Raises OSError.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            request = self._http.build_request(
                "POST",
                "/api/uploads",
                params={"name": path.name.encode(errors="replace").decode()},
                content=_chunks(file, size, on_progress),
                headers={"content-length": str(size)},
                timeout=httpx.Timeout(UPLOAD_PATIENCE, connect=CONNECT_TIMEOUT),
            )
            return self._read(self._send(request), UploadView)

    def account(self) -> Account:
        """The account's balance at the provider."""
        return self._call("GET", "/api/account", Account)

    # ------------------------------------------------------------ the server itself

    def ready(self) -> Readiness:
        """Whether the server can do its work; being unready is an answer, no error."""
        with _translated(self.url):
            answer = self._http.get("/readyz")
        if answer.status_code not in (200, 503):
            raise _error_of(answer)
        return self._read(answer, Readiness)

    def backup(
        self, path: Path, on_progress: Callable[[int, int | None], None] | None = None, *, overwrite: bool = False
    ) -> int:
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

    # ------------------------------------------------------------ shared

    def _on_task(self, task_id: str, verb: str, kind: type[T]) -> T:
        return self._call("POST", f"/api/tasks/{_part(task_id)}/{verb}", kind)

    def _list(self, name: str, kind: type[T], narrow: ListFilter) -> T:
        return self._call("GET", f"/api/{name}", kind, query=_query(narrow))

    def _call(
        self,
        method: str,
        path: str,
        kind: type[T],
        *,
        body: Mapping[str, object] | None = None,
        query: Sequence[tuple[str, str]] = (),
        headers: dict[bytes, bytes] | None = None,
    ) -> T:
        content = None if body is None else msgspec.json.encode(body)
        request = self._http.build_request(method, path, content=content, params=list(query), headers=headers)
        return self._read(self._send(request), kind)

    def _send(self, request: httpx.Request) -> httpx.Response:
        with _translated(self.url):
            answer = self._http.send(request)
        if not answer.is_success:
            raise _error_of(answer)
        return answer

    def _download(
        self, path: str, write: Callable[[bytes], object], on_progress: Callable[[int, int | None], None] | None
    ) -> int:
        size = 0
        with _translated(self.url), self._http.stream("GET", path) as answer:
            if not answer.is_success:
                answer.read()
                raise _error_of(answer)
            length = answer.headers.get("content-length", "")
            total = int(length) if length.isdigit() else None
            for chunk in answer.iter_bytes():
                write(chunk)
                size += len(chunk)
                if on_progress is not None:
                    on_progress(size, total)
        return size

    def _read(self, answer: httpx.Response, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            message = f"what answers at {self.url} does not speak this API; is it a receiver of this version?"
            raise ApiError(answer.status_code, "unreadable", message) from None


def _order(
    kind: str,
    target: str,
    input: Mapping[str, object],
    labels: Mapping[str, str],
    api: str | None,
    *,
    validate: bool,
) -> dict[str, object]:
    order = {"kind": kind, "target": target, "input": input, "labels": labels, "validate": validate}
    return order if api is None else {**order, "api": api}


def _chunks(file: IO[bytes], size: int, on_progress: Callable[[int, int | None], None] | None) -> Iterator[bytes]:
    done = 0
    while chunk := file.read(CHUNK):
        yield chunk
        done += len(chunk)
        if on_progress is not None:
            on_progress(done, size)


def _part(text: str) -> str:
    return quote(text, safe="")


def _query(narrow: ListFilter) -> list[tuple[str, str]]:
    query: list[tuple[str, str]] = []
    for name, value in narrow.items():
        if isinstance(value, Mapping):
            query += [(name, f"{key}={text}") for key, text in value.items()]
        elif isinstance(value, datetime):
            query.append((name, value.isoformat()))
        elif isinstance(value, Sequence) and not isinstance(value, str):
            query += [(name, str(each)) for each in value]
        elif value is not None:
            query.append((name, str(value)))
    return query


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        waited = "it takes no connection" if isinstance(error, httpx.ConnectTimeout) else "it took too long"
        raise Unreachable(url, waited) from error
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise Unreachable(url, ERRNO.sub("", str(error)) or type(error).__name__) from error


def _error_of(answer: httpx.Response) -> ApiError:
    try:
        error = msgspec.json.decode(answer.content, type=ErrorDocument).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        status = f"{answer.status_code} {answer.reason_phrase}".strip()
        place = f"{answer.request.url.scheme}://{answer.request.url.netloc.decode()}"
        return ApiError(answer.status_code, "http_error", f"{place} answers {status}; is it a receiver?")
    return ApiError(answer.status_code, error.code, error.message, error.details)
