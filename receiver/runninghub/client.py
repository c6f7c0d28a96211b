"""Speaks HTTP to RunningHub. Every method is one documented endpoint; every failure leaves as a ProviderError.

Reads (query, webhook detail) are tried again here, a few times within seconds. A submission never is: the provider has
no idempotency key, so a second send may be a second bill.
"""

import ssl
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import TypeVar

import httpx
import msgspec
import stamina

from receiver.records import Account, Json, JsonObject
from receiver.runninghub import wire
from receiver.runninghub.errors import NO_SUCH_TASK, ProviderError, describe
from receiver.runninghub.requests import SubmitRequest

T = TypeVar("T")

ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer that are read at the most."""
ANSWER_KEPT = 16 * 1024
OUTPUT_CODES = NO_SUCH_TASK | {"0", "804", "805", "813"}
"""What the outputs endpoint says of a task; anything else is said of the request."""
TIMEOUT = httpx.Timeout(30.0, connect=10.0, pool=5.0)
SUBMIT_TIMEOUT = httpx.Timeout(60.0, connect=10.0, pool=5.0)
"""A fast task may finish within its own submit call, so that answer may take longer."""
LIMITS = httpx.Limits(max_connections=32, max_keepalive_connections=16)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """A raw answer: HTTP status, the seconds the provider asked us to wait, and the body."""

    status: int
    retry_after: float | None
    body: bytes


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """An accepted submission: the provider's task id and what it said of the task."""

    task_id: str
    outcome: wire.Outcome
    answer: bytes


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a query said, with the raw answer."""

    outcome: wire.Outcome
    answer: bytes


class DetailReading(msgspec.Struct, frozen=True, kw_only=True):
    """What the webhook detail said; `detail` is None when no callback was registered for the task."""

    detail: wire.WebhookDetail | None
    answer: bytes


def open_http(transport: httpx.AsyncBaseTransport | None, tls: ssl.SSLContext) -> httpx.AsyncClient:
    """The HTTP client for the provider: explicit timeouts and limits, no proxy from the environment, no redirects."""
    return httpx.AsyncClient(transport=transport, verify=tls, timeout=TIMEOUT, limits=LIMITS, trust_env=False)


class RunningHub:
    """The provider. `api_key` None means that nothing can be asked; `read_wait` is the first pause between reads."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        base_url: str,
        api_key: str | None,
        *,
        read_attempts: int = 3,
        read_wait: float = 0.5,
    ) -> None:
        self._http = http
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._read_attempts = read_attempts
        self._read_wait = read_wait

    @property
    def has_key(self) -> bool:
        return self._api_key is not None

    async def submit(self, request: SubmitRequest) -> Submission:
        """Submits a task, once. Raises ProviderError, whose code says whether the task may exist all the same."""
        if not request.v1:
            answered = await self._post(request.path, request.body, timeout=SUBMIT_TIMEOUT)
            outcome, code, message = _understood(answered, wire.read_task_object)
        else:
            answered = await self._post(request.path, {"apiKey": self._api_key, **request.body}, timeout=SUBMIT_TIMEOUT)
            outcome, code, message = _understood(answered, wire.read_created)
        if outcome is None or outcome.task_id is None:
            raise _refusal(code or "unreadable", message, answered)
        return Submission(task_id=outcome.task_id, outcome=outcome, answer=_kept(answered))

    async def query(self, task_id: str) -> Reading:
        """How a task stands (page "Query generation result (V2)"). An unknown task is an outcome, not an error."""
        return await self._read(lambda: self._query_once(task_id))

    async def outputs(self, task_id: str) -> Reading:
        """What a workflow, app or quick-create task made, or why not (page "Check Task Output")."""
        return await self._read(lambda: self._outputs_once(task_id))

    async def webhook_detail(self, task_id: str) -> DetailReading:
        """What became of a task's callback (page "Get Webhook Event Details")."""
        return await self._read(lambda: self._detail_once(task_id))

    async def resend(self, webhook_id: str, callback_url: str) -> bytes:
        """Asks for a webhook event once more, at `callback_url` (page "Resend Specific Webhook Event")."""
        body: JsonObject = {"webhookId": webhook_id, "webhookUrl": callback_url}
        answered, _ = await self._v1("/task/openapi/retryWebhook", body)
        return _kept(answered)

    async def cancel(self, task_id: str) -> bytes:
        """Cancels a task (page "Cancel ComfyUI Task")."""
        answered, _ = await self._v1("/task/openapi/cancel", {"taskId": task_id})
        return _kept(answered)

    async def account(self) -> Account:
        """The account's balance and running tasks (page "Get Account Information"). Here the key is lower-case."""
        return await self._read(self._account_once)

    async def _account_once(self) -> Account:
        answered = await self._post("/uc/openapi/accountStatus", {"apikey": self._api_key})
        envelope = _understood(answered, wire.read_envelope)
        if envelope.code != "0":
            raise _refusal(envelope.code, envelope.message, answered)
        return _understood(answered, lambda _: wire.read_account(envelope.data))

    async def _query_once(self, task_id: str) -> Reading:
        answered = await self._post("/openapi/v2/query", {"taskId": task_id})
        outcome, code, message = _understood(answered, wire.read_task_object)
        if outcome is not None:
            return Reading(outcome=outcome, answer=_kept(answered))
        if code in NO_SUCH_TASK:
            return Reading(outcome=wire.Outcome(known=False), answer=_kept(answered))
        raise _refusal(code, message, answered)

    async def _outputs_once(self, task_id: str) -> Reading:
        answered = await self._post("/task/openapi/outputs", {"apiKey": self._api_key, "taskId": task_id})
        envelope = _understood(answered, wire.read_envelope)
        if envelope.code not in OUTPUT_CODES:
            raise _refusal(envelope.code, envelope.message, answered)
        return Reading(outcome=_understood(answered, wire.read_callback), answer=_kept(answered))

    async def _detail_once(self, task_id: str) -> DetailReading:
        try:
            answered, data = await self._v1("/task/openapi/getWebhookDetail", {"taskId": task_id})
        except ProviderError as error:
            if error.code in ("1", *NO_SUCH_TASK):
                return DetailReading(detail=None, answer=error.answer)
            raise
        if data is None:
            return DetailReading(detail=None, answer=_kept(answered))
        return DetailReading(
            detail=_understood(answered, lambda _: wire.read_webhook_detail(data)), answer=_kept(answered)
        )

    async def _v1(self, path: str, body: JsonObject) -> tuple[Answered, Json]:
        """A V1 request: the key goes into the body too, where the provider was measured to look for it."""
        answered = await self._post(path, {"apiKey": self._api_key, **body})
        envelope = _understood(answered, wire.read_envelope)
        if envelope.code != "0":
            raise _refusal(envelope.code, envelope.message, answered)
        return answered, envelope.data

    async def _read(self, ask: Callable[[], Awaitable[T]]) -> T:
        async for attempt in stamina.retry_context(
            on=_worth_asking_again,
            attempts=self._read_attempts,
            wait_initial=self._read_wait,
            wait_max=self._read_wait * 4,
            wait_jitter=self._read_wait,
            timeout=None,
        ):
            with attempt:
                return await ask()
        raise AssertionError("stamina ended without a result or an error")

    async def _post(self, path: str, body: JsonObject, *, timeout: httpx.Timeout = TIMEOUT) -> Answered:
        if self._api_key is None:
            raise ProviderError("no_key")
        headers = {"Authorization": f"Bearer {self._api_key}", "Content-Type": "application/json"}
        content = msgspec.json.encode(body)
        try:
            async with self._http.stream(
                "POST", self._base_url + path, content=content, headers=headers, timeout=timeout
            ) as response:
                answer = b""
                async for chunk in response.aiter_bytes():
                    answer += chunk
                    if len(answer) > ANSWER_LIMIT:
                        raise ProviderError("unreadable", "the answer is too long", http_status=response.status_code)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ProviderError("not_sent", f"no connection ({type(error).__name__})") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ProviderError("unanswered", f"no answer ({type(error).__name__})") from error
        return Answered(status=response.status_code, retry_after=_retry_after(response.headers), body=answer)


def _understood(answered: Answered, read: Callable[[bytes], T]) -> T:
    """The answer's content; an answer that cannot be read is named after its HTTP status unless that was a 200."""
    try:
        return read(answered.body)
    except wire.Unreadable as problem:
        code = "unreadable" if answered.status < 400 else f"http_{answered.status}"
        message = f"HTTP {answered.status}, {problem}"
        raise _refusal(code, message, answered) from problem


def _refusal(code: str, message: str, answered: Answered) -> ProviderError:
    # A throttle or a broken gateway may carry a readable body whose code says less than the status does.
    if answered.status == 429 or (answered.status >= 500 and not describe(code).retryable):
        code = f"http_{answered.status}"
    return ProviderError(
        code,
        message[: wire.TEXT_LIMIT],
        http_status=answered.status,
        retry_after=answered.retry_after,
        answer=_kept(answered),
    )


def _worth_asking_again(error: Exception) -> bool:
    return isinstance(error, ProviderError) and error.retryable


def _kept(answered: Answered) -> bytes:
    return answered.body[:ANSWER_KEPT]


def _retry_after(headers: httpx.Headers) -> float | None:
    """Seconds from a Retry-After header. A date is taken relative to the answer's own Date, so no clock is needed."""
    value = headers.get("retry-after", "")
    try:
        if value.isdigit():
            return float(value)
        wait = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, wait.total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
