"""Owns the simulator in real time: the clock on the wall, real POSTs, and turns taken while it is served."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount

from receiver.simulator.app import Simulator
from receiver.simulator.control import control_routes
from receiver.simulator.delivery import noted, post_callback, real_client
from receiver.simulator.options import Options

LONGEST_WAIT = 0.05
"""Seconds between two looks at the clock: a submission may put something on the agenda at any time."""
LANES = 16
"""Turns that are taken side by side, so that one receiver that hangs does not hold up the callbacks of the others."""


def create_app(options: Options, note: Callable[[str], None] | None = None) -> Starlette:
    """The provider's API and the control routes as one app, which works off its agenda while it is served.

    `note` is told every request and every callback, in a line each.

    `app.state.simulator` is the simulator. Give it to any ASGI server that runs the lifespan.
    """
    client = real_client()
    deliver = post_callback(client) if note is None else noted(post_callback(client), note)
    simulator = Simulator(options, clock=time.time, deliver=deliver, pause=asyncio.sleep, note=note)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with client:
            lanes = [asyncio.create_task(_take_turns(simulator)) for _ in range(LANES)]
            try:
                yield
            finally:
                for lane in lanes:
                    lane.cancel()
                await asyncio.gather(*lanes, return_exceptions=True)

    app = Starlette(routes=[*control_routes(simulator), Mount("/", simulator)], lifespan=lifespan)
    app.state.simulator = simulator
    return app


async def _take_turns(simulator: Simulator) -> None:
    while True:
        await simulator.tick()
        due = simulator.next_due()
        until = LONGEST_WAIT if due is None else due - time.time()
        await asyncio.sleep(min(LONGEST_WAIT, max(0.001, until)))
