"""Owns the simulator in real time: the clock on the wall, real POSTs, and turns taken while it is served."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from starlette.applications import Starlette
from starlette.routing import Mount

from receiver.simulator.app import Simulator
from receiver.simulator.callbacks import Deliver, DeliveryAnswer
from receiver.simulator.control import control_routes
from receiver.simulator.delivery import real_deliverer
from receiver.simulator.faults import Chances
from receiver.simulator.models import read_models

LONGEST_WAIT = 0.05
"""Seconds between two looks at the clock: a submission may put something on the agenda at any time."""
LANES = 16
"""Turns that are taken side by side, so that one receiver that hangs does not hold up the callbacks of the others."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a served simulator behaves. Chances go from 0 to 1, times are in seconds, sizes in bytes."""

    port: int = 8099
    host: str = "127.0.0.1"
    base_url: str | None = None
    """The front of the result links; None means `http://host:port`."""
    seed: int = 0
    api_key: str | None = None
    task_seconds: float = 5.0
    retry_seconds: tuple[float, ...] = (30.0, 30.0, 30.0)
    delay: float = 0.0
    """How long every callback is held back."""
    max_in_flight: int | None = None
    file_size: int = 65536
    link_seconds: float = 86400.0
    callback_on_cancel: bool = False
    models: str | None = None
    """A file of model facts, one JSON object a line, by which submissions are judged; None lets everything pass."""
    api_type: str = "SHARED"
    currency: str = "CNY"
    coins: float = 1_000_000.0
    money: float = 1_000_000.0
    coins_per_second: float = 0.2
    model_price: float | None = None
    upload_limit: int = 30 * 1024 * 1024
    drop: float = 0.0
    unsent: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0
    late_seconds: float = 60.0
    before_answer: float = 0.0
    junk: float = 0.0
    fail: float = 0.0
    no_results: float = 0.0
    false_claim: float = 0.0
    early_claim: float = 0.0
    answer_lost: float = 0.0

    @property
    def chances(self) -> Chances:
        return Chances(
            drop=self.drop,
            unsent=self.unsent,
            duplicate=self.duplicate,
            late=self.late,
            late_seconds=self.late_seconds,
            before_answer=self.before_answer,
            junk=self.junk,
            fail=self.fail,
            no_results=self.no_results,
            false_claim=self.false_claim,
            early_claim=self.early_claim,
            answer_lost=self.answer_lost,
        )


def create_app(options: Options) -> Starlette:
    """The provider's API and the control routes as one app, which works off its agenda while it is served.

    `app.state.simulator` is the simulator. Give it to any ASGI server that runs the lifespan.
    """
    line = _Line()
    simulator = build_simulator(options, line.deliver)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            line.connected = await stack.enter_async_context(real_deliverer())
            stack.push_async_callback(_stop, [asyncio.create_task(_take_turns(simulator)) for _ in range(LANES)])
            yield

    app = Starlette(routes=[*control_routes(simulator), Mount("/", simulator)], lifespan=lifespan)
    app.state.simulator = simulator
    return app


def build_simulator(options: Options, deliver: Deliver) -> Simulator:
    """The simulator the options describe, on the wall's clock. OSError or ValueError when `models` cannot be read."""
    return Simulator(
        clock=time.time,
        deliver=deliver,
        seed=options.seed,
        base_url=options.base_url or f"http://{options.host}:{options.port}",
        api_key=options.api_key,
        task_seconds=options.task_seconds,
        retry_seconds=options.retry_seconds,
        callback_delay=options.delay,
        max_in_flight=options.max_in_flight,
        file_size=options.file_size,
        link_seconds=options.link_seconds,
        chances=options.chances,
        callback_on_cancel=options.callback_on_cancel,
        models=read_models(Path(options.models)) if options.models is not None else None,
        api_type=options.api_type,
        currency=options.currency,
        coins=options.coins,
        money=options.money,
        coins_per_second=options.coins_per_second,
        model_price=options.model_price,
        upload_limit=options.upload_limit,
        pause=asyncio.sleep,
    )


class _Line:
    """The way out, which is only there while the app is served."""

    def __init__(self) -> None:
        self.connected: Deliver | None = None

    async def deliver(self, url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        if self.connected is None:
            return DeliveryAnswer(None, "Network is unreachable")
        return await self.connected(url, body, headers)


async def _take_turns(simulator: Simulator) -> None:
    while True:
        await simulator.tick()
        due = simulator.next_due()
        until = LONGEST_WAIT if due is None else due - time.time()
        await asyncio.sleep(min(LONGEST_WAIT, max(0.001, until)))


async def _stop(lanes: list[asyncio.Task[None]]) -> None:
    for lane in lanes:
        lane.cancel()
    await asyncio.gather(*lanes, return_exceptions=True)
