"""Actions: how many in a second, and how soon one starts after its callback."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uuid_utils
from ledgers import end_tasks
from servers import API_KEY, MODEL

from benchmarks import effects
from benchmarks.measuring import Result, Row, Run, measurement
from benchmarks.sweep import provider
from receiver.model.definitions import ActionKind, Definition
from receiver.model.entries import NewTask, Settlement
from receiver.model.records import Kind
from receiver.receive import Inbound, receive
from receiver.server.service import RECONCILER, Service
from receiver.server.settings import load_settings
from receiver.simulator import DeliveryAnswer, Options, Simulator
from receiver.store import Store, open_store

CONCURRENCY = 4
"""What an action has unless it says otherwise."""
TURNS = 3
PYTHON = 'kind = "python"\nfunction = "benchmarks.effects:nothing"'
NAMED = {
    "claims_and_settlements": "claim and settle, nothing between",
    "python": "python function that does nothing",
    "posts": "the HTTP client alone, on loopback",
    "http": "http action, on loopback",
}


@measurement("actions in a second, and how soon one starts after its callback", count=(2_000, 300, 30))
async def actions(run: Run) -> Result:
    """Each measure a third of the count, three times in turn: the median of what a shared machine gives."""
    seen: dict[str, list[float]] = {}
    with provider() as url:
        http = f'kind = "http"\nurl = "{url}"\nallow_private = true'
        for turn in range(TURNS):
            share = run.size // TURNS
            home = run.directory / f"actions-{turn}"
            home.mkdir()
            rates = {
                "claims_and_settlements": await alone(home / "alone.db", share),
                "python": await worked_off(home / "python", PYTHON, share),
                "posts": await posts(url, share),
                "http": await worked_off(home / "http", http, share),
            }
            for what, rate in rates.items():
                seen.setdefault(what, []).append(rate)
                seen.setdefault(f"{what}_ratio", []).append(rate / rates["claims_and_settlements"])
    found = {what: statistics.median(rates) for what, rates in seen.items()}
    rows: list[Row] = [(text, f"{found[what]:.0f}/s", f"{found[f'{what}_ratio']:.2f}") for what, text in NAMED.items()]
    for confirm, word in (("false", "off"), ("true", "on")):
        waits = await starts(run.directory / f"confirm-{confirm}", confirm, max(20, run.size // 20))
        median, slow = statistics.median(waits) * 1000, statistics.quantiles(waits, n=20)[-1] * 1000
        found |= {f"start_ms_confirm_{confirm}_median": median, f"start_ms_confirm_{confirm}_p95": slow}
        rows.append((f"callback committed to action started, confirm {word}", f"{median:.1f} ms", f"p95 {slow:.1f} ms"))
    return Result(found, rows)


async def alone(database: Path, count: int) -> float:
    """Claims and settlements in a second, with nothing between them, as workers make them: what the ledger allows."""
    store = open_store(f"sqlite:///{database}")
    await store.open()
    await end_tasks(store, count, [Definition(name="one", kind=ActionKind.PYTHON, timeout=30)], time.time())

    async def work() -> None:
        claimed = await store.claim_action("one", time.time(), 60)
        while claimed is not None:
            _, claimed = await store.settle_and_claim(claimed, Settlement(outcome="done"), time.time(), 60)

    begun = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    rate = count / (time.perf_counter() - begun)
    await store.close()
    return rate


async def worked_off(home: Path, kind: str, count: int) -> float:
    """Actions in a second of a running service, all of them owed before."""
    async with service(home, f'[[actions]]\nname = "one"\n{kind}\n') as made:
        await end_tasks(made.store, count, made.definitions, time.time())
        made.wake()
        begun = time.perf_counter()
        while (await made.store.definition_states())[0].counts.get("done", 0) < count:
            await asyncio.sleep(0.02)
        return count / (time.perf_counter() - begun)


async def posts(url: str, count: int) -> float:
    """What the HTTP client alone makes in a second, with a body of the same size."""
    left = iter(range(count))

    async def work(client: httpx.AsyncClient) -> None:
        for _ in left:
            await client.post(url, json={"body": "x" * 900})

    async with httpx.AsyncClient(trust_env=False) as client:
        begun = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(CONCURRENCY)))
        return count / (time.perf_counter() - begun)


async def starts(home: Path, confirm: str, count: int) -> list[float]:
    """Seconds between the commit of a callback and the start of its action, one task at a time."""
    committed: dict[str, float] = {}
    made: Service

    async def deliver(url: str, body: bytes, headers: Mapping[str, str]) -> DeliveryAnswer:
        link = made.links.read(url.rpartition("/")[2])
        assert link is not None
        await receive(made.store, link, Inbound(body=body), time.time())
        committed[link.task_id] = time.perf_counter()
        made.wake(only=RECONCILER)
        return DeliveryAnswer(200, "")

    simulator = Simulator(Options(api_key=API_KEY, task_seconds=0.0), clock=time.time, deliver=deliver)
    toml = '[[actions]]\nname = "one"\nkind = "python"\nfunction = "benchmarks.effects:note"\n'
    async with service(home, toml, simulator, RECEIVER_CONFIRM=confirm) as made:
        for number in range(count):
            task = await ordered(made.store, number)
            made.wake()
            while task not in effects.begun:
                await simulator.tick()
                await asyncio.sleep(0.001)
    return [effects.begun[task] - moment for task, moment in committed.items()]


@asynccontextmanager
async def service(
    home: Path, toml: str, simulator: Simulator | None = None, **environment: str
) -> AsyncIterator[Service]:
    home.mkdir()
    (home / "receiver.toml").write_text(toml)
    given = {
        "RECEIVER_DATABASE": f"sqlite:///{home / 'receiver.db'}",
        "RECEIVER_PUBLIC_URL": "http://receiver.test",
        "RUNNINGHUB_API_KEY": API_KEY,
        "RUNNINGHUB_BASE_URL": "http://simulator.test",
        **environment,
    }
    made = Service(load_settings(given, home), transport=simulator.transport() if simulator else None)
    await made.start()
    try:
        yield made
    finally:
        await made.close()


async def ordered(store: Store, number: int) -> str:
    order = NewTask(
        id=str(uuid_utils.uuid7()), kind=Kind.MODEL, target=MODEL, input={}, labels={}, digest=number.to_bytes(32)
    )
    return (await store.add_task(order, time.time())).task.id
