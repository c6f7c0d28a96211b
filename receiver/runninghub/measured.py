"""How often the provider is asked for what, how long it takes, and what comes of it: measured where requests leave."""

import time
from collections.abc import Callable

import httpx

from receiver.model.measures import Meter

OPERATIONS = {
    "/openapi/v2/query": "query",
    "/openapi/v2/queue/status": "queue",
    "/task/openapi/outputs": "outputs",
    "/task/openapi/status": "status",
    "/task/openapi/getWebhookDetail": "webhook_detail",
    "/task/openapi/retryWebhook": "resend",
    "/task/openapi/cancel": "cancel",
    "/uc/openapi/accountStatus": "account",
    "/api/openapi/getJsonApiFormat": "workflow",
    "/api/webapp/apiCallDemo": "app",
    "/api/fast/creation/model/params": "styles",
}
BEGINNINGS = {
    "/openapi/v2/price-preview/": "price",
    "/openapi/v2/media/": "upload",
    "/task/openapi/upload": "upload",
    "/api/openapi/getLoraUploadUrl": "upload",
    "/openapi/v2/": "submit",
    "/task/openapi/": "submit",
}
"""For paths that name more than an operation: the first that fits."""


def operation_of(path: str) -> str:
    """What a request asks for; no word that came from outside."""
    for beginning, operation in BEGINNINGS.items():
        if path not in OPERATIONS and path.startswith(beginning):
            return operation
    return OPERATIONS.get(path, "other")


class MeasuredTransport(httpx.AsyncBaseTransport):
    """Measures every exchange of another transport until its answer begins; `clock` is in seconds since 1970."""

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        meter: Meter,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._transport = transport
        self._meter = meter
        self._clock = clock
        self._monotonic = monotonic

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        operation, begun, meter = operation_of(request.url.path), self._monotonic(), self._meter
        meter.asking += 1
        outcome = "unanswered"
        try:
            response = await self._transport.handle_async_request(request)
            outcome = "answered" if response.status_code < 400 else f"http_{response.status_code}"
            meter.answered_at = self._clock()
            return response
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            outcome = "not_sent"
            raise
        finally:
            meter.asking -= 1
            meter.asked[operation, outcome] += 1
            meter.asked_seconds[operation].note(max(0.0, self._monotonic() - begun))

    async def aclose(self) -> None:
        await self._transport.aclose()
