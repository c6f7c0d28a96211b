"""How the contenders that are written in Starlette are served: as we are, with nothing around them."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Store = Callable[[str, bytes], Awaitable[None]]
"""Keeps the body that was posted with a token."""


async def nothing() -> None:
    pass


def serve(store: Store, start: Callable[[], Awaitable[None]] = nothing) -> None:
    """Answers 200 to every POST of a callback when it is stored. `start` comes before the first."""

    @asynccontextmanager
    async def started(app: Starlette) -> AsyncIterator[None]:
        await start()
        yield

    async def callback(request: Request) -> Response:
        await store(request.path_params["token"], await request.body())
        return Response(b'{"received":true,"duplicate":false}', media_type="application/json")

    app = Starlette(routes=[Route("/callbacks/{token}", callback, methods=["POST"])], lifespan=started)
    uvicorn.run(app, port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False, log_level="error")
