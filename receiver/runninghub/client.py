"""Speaks HTTP to RunningHub. Every method is one documented endpoint; every failure leaves as a ProviderError.

Reads (query, webhook detail) are tried again here, a few times within seconds. A submission never is: the provider has
no idempotency key, so a second send may be a second bill.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import aclosing, suppress
from copy import copy
from functools import wraps
from hashlib import sha256
from secrets import token_hex
from typing import Concatenate, Generic, ParamSpec, TypeVar
from urllib.parse import urlencode, urlsplit

import httpx
import msgspec
import stamina

from receiver.egress.sending import send
from receiver.model.records import Account, Json, JsonObject
from receiver.model.retry_after import seconds_asked
from receiver.model.rules import KEPT_HTTP_REFUSALS
from receiver.runninghub import wire
from receiver.runninghub.errors import BY_WORDS, NO_SUCH_TASK, ProviderError, describe
from receiver.runninghub.lenient import mended
from receiver.runninghub.requests import SubmitRequest

T = TypeVar("T")
P = ParamSpec("P")
C = TypeVar("C", bound="Channel")

ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer that are read at the most."""
ANSWER_KEPT = 16 * 1024
ANOTHER_TASK = "the answer is about another task"
V2_ROOT = "/openapi/v2"
"""Where the vendor's own client begins its paths; whoever copies its base URL means the site all the same."""
OUTPUT_CODES = NO_SUCH_TASK | {"0", "804", "805", "813"}
"""What the outputs endpoint says of a task; anything else is said of the request."""
TIMEOUT = httpx.Timeout(30.0, connect=10.0, pool=5.0)
SUBMIT_TIMEOUT = httpx.Timeout(60.0, connect=10.0, pool=5.0)
"""A fast task may finish within its own submit call, so that answer may take longer."""
UPLOAD_TIMEOUT = httpx.Timeout(120.0, connect=10.0, pool=5.0)
"""The answer to an upload comes when the provider has stored it."""
UPLOAD_DEADLINE = 3600.0
"""Seconds for an upload with its answer. Anything else may take twice the time that one wait of it may take."""
REPEATED_WITHIN = 30.0
"""Seconds after which nothing is asked once more: with the attempt in hand, no question holds anybody for longer than
90. It is asked again later, and meanwhile others are."""
SITE_PATIENCE = 10.0
"""Seconds for a site's answer while somebody waits."""
LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=16)


class FileToSend(msgspec.Struct, frozen=True, kw_only=True):
    """A file on its way to the provider: `size` bytes, which `open` gives from the start, anew each time."""

    name: str
    size: int
    open: Callable[[], AsyncIterator[bytes]]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A raw answer: HTTP status, the seconds the provider asked us to wait, and the body."""

    status: int
    retry_after: float | None
    body: bytes


class Reply(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What an answer says, and the beginning of its bytes."""

    content: T
    raw: bytes


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted submission: the provider's task id and what it said of the task."""

    task_id: str
    report: wire.TaskReport


def transport_of(tls: ssl.SSLContext) -> httpx.AsyncBaseTransport:
    """The network to the provider, with limits, and without a proxy from the environment."""
    return httpx.AsyncHTTPTransport(verify=tls, limits=LIMITS, trust_env=False)


def open_http(transport: httpx.AsyncBaseTransport | None, tls: ssl.SSLContext) -> httpx.AsyncClient:
    """The HTTP client for the provider: explicit timeouts, no proxy from the environment, no redirects."""
    return httpx.AsyncClient(transport=transport or transport_of(tls), timeout=TIMEOUT, trust_env=False)


def headers_of(file: FileToSend) -> dict[str, str]:
    """What is said of a file that is stored at an address."""
    return {"Content-Type": "application/octet-stream", "Content-Length": str(file.size)}


def site_of(base_url: str) -> str:
    """The address of a site, however its base URL was written."""
    return base_url.rstrip("/").removesuffix(V2_ROOT)


def fingerprint(api_key: str) -> str:
    """What a key is remembered by, where the key itself must not be."""
    return sha256(api_key.encode()).hexdigest()[:32]


def _address(url: str) -> str:
    """Whom a URL is sent to; the rest of it may be a secret."""
    try:
        return urlsplit(url).netloc.rpartition("@")[2]
    except ValueError:
        return "an address that is none"


def was_not_sent(error: Exception) -> bool:
    """Whether not even a connection was made, so that sending again repeats nothing."""
    return isinstance(error, ProviderError) and error.code == "not_sent"


def worth_asking_again(error: Exception) -> bool:
    """Whether a question, which changes nothing at the provider, may be answered the next time."""
    # A site that has moved says so every time.
    return isinstance(error, ProviderError) and error.retryable and error.code != "moved"


def asked_again(ask: Callable[Concatenate[C, P], Awaitable[T]]) -> Callable[Concatenate[C, P], Awaitable[T]]:
    """Makes a question of a channel one that is asked a few times while that may help."""

    @wraps(ask)
    def repeated(channel: C, /, *args: P.args, **named: P.kwargs) -> Awaitable[T]:
        return channel.again(worth_asking_again, ask, channel, *args, **named)

    return repeated


class Channel:
    """How the provider is spoken to; without `api_key` not at all. `read_wait` is the first pause between reads.

    `site` is the base URL of the provider's site, without a slash at its end; `again` repeats a call a few times, after
    errors of which its first argument says that it may help. `deadline` bounds every exchange, in seconds.
    """

    def __init__(
        self,
        http: httpx.AsyncClient,
        base_url: str,
        api_key: str | None,
        *,
        attempts: int = 3,
        read_wait: float = 0.5,
        deadline: float | None = None,
    ) -> None:
        self._http = http
        self._deadline = deadline
        self.site = site_of(base_url)
        self.sites: Collection[str] = (self.site,)
        """Where the API key was used before: it is shown to no other site."""
        self.has_key = api_key is not None
        self._api_key = api_key
        self.again = stamina.AsyncRetryingCaller(
            attempts=attempts,
            wait_initial=read_wait,
            wait_max=read_wait * 4,
            wait_jitter=read_wait,
            timeout=REPEATED_WITHIN if deadline is None else deadline / 2,
        )

    def at(self: C, site: str | None) -> C:
        """The same provider at another of its sites; None is this one. Raises ProviderError for one without the key."""
        if site in (None, self.site):
            return self
        if site not in self.sites:
            raise ProviderError("other_key", f"the task was sent to {site}, where today's API key was never used")
        other = copy(self)
        other.site = site
        return other

    @property
    def key(self) -> str:
        """The API key, for the few places where it belongs into a body or an address."""
        if self._api_key is None:
            raise ProviderError("no_key")
        return self._api_key

    async def data(
        self,
        ask: Callable[[], Awaitable[Answered]],
        read: Callable[[Json], T],
        *,
        again_after: Callable[[Exception], bool] = worth_asking_again,
    ) -> T:
        """What `read` finds in an answer's data; `again_after` says which errors are worth another question."""

        async def once() -> tuple[Answered, Json]:
            return accepted(await ask())

        answered, data = await self.again(again_after, once)
        return understood(answered, lambda _: read(data))

    async def post_v1(self, path: str, body: JsonObject) -> Answered:
        """A V1 request: the key goes into the body too, where the provider was measured to look for it."""
        return await self.post(path, {"apiKey": self.key, **body})

    async def post(
        self, path: str, body: JsonObject, *, with_key: bool = True, timeout: httpx.Timeout = TIMEOUT
    ) -> Answered:
        headers = {"Content-Type": "application/json"}
        if with_key:
            headers["Authorization"] = f"Bearer {self.key}"
        return await self._send("POST", self.site + path, headers, msgspec.json.encode(body), timeout)

    async def get(self, path: str, query: Mapping[str, str]) -> Answered:
        url = self.site + path + (f"?{urlencode(query)}" if query else "")
        return await self._send("GET", url, {"Authorization": f"Bearer {self.key}"}, b"", TIMEOUT)

    async def post_form(self, path: str, fields: Mapping[str, str], file: FileToSend) -> Answered:
        """A form with one file in it, which is streamed."""
        boundary = token_hex(16)
        head, tail = _form_around(boundary, fields, file.name)
        headers = {
            "Authorization": f"Bearer {self.key}",
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Content-Length": str(len(head) + file.size + len(tail)),
        }
        content = _framed(head, file.open(), tail)
        return await self._send("POST", self.site + path, headers, content, UPLOAD_TIMEOUT)

    async def put(self, url: str, file: FileToSend) -> Answered:
        """A file at an address of the provider's own site. The key is not shown there."""
        return await self._send("PUT", url, headers_of(file), file.open(), UPLOAD_TIMEOUT)

    async def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | AsyncIterator[bytes], timeout: httpx.Timeout
    ) -> Answered:
        usual = UPLOAD_DEADLINE if timeout is UPLOAD_TIMEOUT else 2 * (timeout.read or 0.0)
        seconds = self._deadline or usual
        until = asyncio.get_running_loop().time() + seconds
        try:
            request = self._http.build_request(method, url, content=body, headers=headers, timeout=timeout)
            response = await send(self._http, request, seconds)
            async with aclosing(response), asyncio.timeout_at(until):
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER_LIMIT:
                        raise ProviderError("unreadable", "the answer is too long", http_status=response.status_code)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ProviderError("not_sent", f"no connection to {_address(url)} ({type(error).__name__})") from error
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise ProviderError("unanswered", f"no answer from {_address(url)} ({type(error).__name__})") from error
        if response.has_redirect_location:
            raise ProviderError("moved", _moved(response), http_status=response.status_code)
        wait = seconds_asked(response.headers.get("retry-after", ""), date=response.headers.get("date", ""))
        return Answered(status=response.status_code, retry_after=wait, body=answer)


class RunningHub(Channel):
    """The provider's endpoints for tasks and the account; those for all else are `resources.Resources`."""

    async def submit(self, request: SubmitRequest) -> Reply[Submission]:
        """Submits a task, once. Raises ProviderError, whose code says whether the task may exist all the same."""
        body = {"apiKey": self.key, **request.body} if request.v1 else request.body
        answered = await self.post(request.path, body, timeout=SUBMIT_TIMEOUT)
        report, code, message = understood(answered, wire.read_created if request.v1 else wire.read_task_object)
        if report is None or report.task_id is None:
            raise refusal(code or "unreadable", message, answered)
        return Reply(content=Submission(task_id=report.task_id, report=report), raw=kept(answered))

    @asked_again
    async def query(self, task_id: str) -> Reply[wire.TaskReport]:
        """How a task stands (page "Query generation result (V2)"). An unknown task is a report, not an error."""
        answered = await self.post("/openapi/v2/query", {"taskId": task_id})
        report, code, message = understood(answered, wire.read_task_object)
        if code in NO_SUCH_TASK:
            report = wire.TaskReport(known=False)
        elif report is None or (code and _is_about_the_question(report)):
            raise refusal(code, message, answered)
        elif report.task_id not in (None, task_id):
            raise refusal("unreadable", ANOTHER_TASK, answered)
        return Reply(content=report, raw=kept(answered))

    @asked_again
    async def outputs(self, task_id: str) -> Reply[wire.TaskReport]:
        """What a workflow, app or quick-create task made, or why not (page "Check Task Output")."""
        answered = await self.post_v1("/task/openapi/outputs", {"taskId": task_id})
        envelope = understood(answered, wire.read_envelope)
        if envelope.code not in OUTPUT_CODES:
            raise refusal(envelope.code, envelope.message, answered)
        return Reply(content=understood(answered, wire.read_callback), raw=kept(answered))

    @asked_again
    async def webhook_detail(self, task_id: str) -> Reply[wire.WebhookDetail | None]:
        """What became of a task's callback (page "Get Webhook Event Details"); None when none was registered for it."""
        answered = await self.post_v1("/task/openapi/getWebhookDetail", {"taskId": task_id})
        try:
            _, data = accepted(answered)
        except ProviderError as error:
            if error.code not in ("1", *NO_SUCH_TASK):
                raise
            data = None
        detail = None if data is None else understood(answered, lambda _: wire.read_webhook_detail(data))
        if detail is not None and detail.task_id not in (None, task_id):
            raise refusal("unreadable", ANOTHER_TASK, answered)
        return Reply(content=detail, raw=kept(answered))

    async def resend(self, webhook_id: str, callback_url: str) -> Reply[None]:
        """Asks for a webhook event once more, at `callback_url` (page "Resend Specific Webhook Event")."""
        return await self._done("/task/openapi/retryWebhook", {"webhookId": webhook_id, "webhookUrl": callback_url})

    async def cancel(self, task_id: str) -> Reply[None]:
        """Cancels a task (page "Cancel ComfyUI Task")."""
        return await self._done("/task/openapi/cancel", {"taskId": task_id})

    async def account(self) -> Account:
        """The account's balance and running tasks (page "Get Account Information"). Here the key is lower-case."""
        return await self.data(lambda: self.post("/uc/openapi/accountStatus", {"apikey": self.key}), wire.read_account)

    async def _done(self, path: str, body: JsonObject) -> Reply[None]:
        answered, _ = accepted(await self.post_v1(path, body))
        return Reply(content=None, raw=kept(answered))


async def ask_site(base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """Asks whether the provider's site is at this address, without showing it the key. Raises ProviderError."""
    async with open_http(transport, httpx.create_ssl_context()) as http:
        channel = Channel(http, base_url, None, deadline=SITE_PATIENCE)
        status = (await channel.post("/openapi/v2/query", {}, with_key=False)).status
    if status == 404 or status >= 500:
        raise ProviderError(f"http_{status}", http_status=status)


def understood(answered: Answered, read: Callable[[bytes], T]) -> T:
    """The answer's content, read leniently where it must be.

    An answer that cannot be read at all is named after its HTTP status, unless that was a 200.
    """
    try:
        return read(answered.body)
    except wire.Unreadable as problem:
        sound = mended(answered.body)
        if sound is not None:
            with suppress(wire.Unreadable):
                return read(sound)
        code = "unreadable" if answered.status < 400 else f"http_{answered.status}"
        message = f"HTTP {answered.status}, {problem}"
        raise refusal(code, message, answered) from problem


def accepted(answered: Answered) -> tuple[Answered, Json]:
    """An answer in an envelope, and its data. The sentence may be called msg or message. Raises ProviderError."""
    envelope = understood(answered, wire.read_envelope)
    if envelope.code != "0":
        raise refusal(envelope.code, envelope.message, answered)
    return answered, envelope.data


def refusal(code: str, message: str, answered: Answered) -> ProviderError:
    # A throttle or a broken gateway may carry a readable body whose code says less than the status does.
    # And words without a code are a proxy's as likely as the provider's, unless the status is a refusal as well.
    broken = answered.status >= 500 and not describe(code).retryable
    refused = answered.status < 300 or (code == "busy" and answered.status in KEPT_HTTP_REFUSALS)
    if answered.status == 429 or broken or (code in BY_WORDS and not refused):
        code = f"http_{answered.status}"
    said = message[: wire.TEXT_LIMIT]
    return ProviderError(
        code, said, http_status=answered.status, retry_after=answered.retry_after, answer=kept(answered)
    )


def _form_around(boundary: str, fields: Mapping[str, str], name: str) -> tuple[bytes, bytes]:
    """What stands before and after the file in a form."""
    quoted = name.translate({ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A"})
    part = f"--{boundary}\r\nContent-Disposition: form-data; name="
    parts = [f'{part}"{field}"\r\n\r\n{value}\r\n' for field, value in fields.items()]
    parts.append(f'{part}"file"; filename="{quoted}"\r\nContent-Type: application/octet-stream\r\n\r\n')
    return "".join(parts).encode(errors="replace"), f"\r\n--{boundary}--\r\n".encode()


async def _framed(head: bytes, content: AsyncIterator[bytes], tail: bytes) -> AsyncIterator[bytes]:
    yield head
    async for chunk in content:
        yield chunk
    yield tail


def _is_about_the_question(report: wire.TaskReport) -> bool:
    """Whether the error in this report is said of the question, and not of the task that was asked about."""
    return report.task_id is None or (report.end is None and report.status not in wire.RUNNING)


def _moved(response: httpx.Response) -> str:
    """Where the site is now, as far as a person may be told: no more than the beginning of an address."""
    here, there = response.url, response.url.join(response.headers["location"])
    says = f"it answers {response.status_code}"
    if (there.scheme, there.netloc) == (here.scheme, here.netloc):
        return f"{says} and stays there, as no site of RunningHub does: is runninghub.base_url right?"
    return f"{says}: set runninghub.base_url to {there.scheme}://{there.netloc.decode()}"


def kept(answered: Answered) -> bytes:
    return answered.body[:ANSWER_KEPT]
