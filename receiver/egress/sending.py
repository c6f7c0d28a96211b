"""Sending a request so that its end, whatever ends it, leaves no connection behind."""

import asyncio
from contextlib import suppress

import anyio
import httpx


async def send(client: httpx.AsyncClient, request: httpx.Request, seconds: float) -> httpx.Response:
    """The answer, its body unread. Raises TimeoutError after so many seconds, and what httpx raises.

    It is sent in a task of its own. httpcore 1.0 guards its bookkeeping against anyio's cancellation, but not against
    asyncio's: a task that is cancelled while it takes a connection leaves that in the pool, in use for ever.
    """
    scope = anyio.CancelScope()

    async def sent() -> httpx.Response | None:
        with scope, anyio.fail_after(seconds):
            return await client.send(request, stream=True)
        return None

    sending = asyncio.create_task(sent())
    try:
        response = await asyncio.shield(sending)
    except asyncio.CancelledError:
        scope.cancel()
        with suppress(Exception):
            if (late := await sending) is not None:
                await late.aclose()
        raise
    assert response is not None
    return response
