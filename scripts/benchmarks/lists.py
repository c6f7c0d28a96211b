"""What is read of a long ledger."""

import statistics
import time
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
from long_ledger import filters
from servers import ADMIN_TOKEN, running

from benchmarks.measuring import Result, Row, Run, measurement
from benchmarks.receiving import SETTINGS, long_ledger
from receiver.store import open_store

PAGES = ("status", "tasks", "deliveries", "events", "actions", "definitions", "alerts", "replays")
ASKED = 20
"""How often each page is asked for."""


@measurement(
    "every filter of every list, alone and in pairs, on a long ledger", whole=True, rows=(1_000_000, 20_000, 500)
)
async def lists(run: Run) -> Result:
    """The best of three answers of the store for each filter; then pages as a user gets them."""
    path = long_ledger(run.directory, run.size)
    store = open_store(f"sqlite:///{path}")
    await store.open()
    seen: dict[str, float] = {}
    for listed, wanted in filters(run.size):
        chosen = {field: getattr(wanted, field) for field in wanted.__struct_fields__}
        narrowed = {field: value for field, value in chosen.items() if value not in ((), None, wanted.limit)}
        seen[f"{listed} {narrowed}"] = await best(partial(getattr(store, listed), wanted))
    definitions = await best(store.definition_states)
    await store.close()
    slowest = sorted(((took, what) for what, took in seen.items()), reverse=True)[:5]
    rows: list[Row] = [
        (f"{len(seen)} filters and pairs in the store: median", f"{statistics.median(seen.values()):.2f} ms", ""),
        *((f"  slowest: {what}", f"{took:.2f} ms", "") for took, what in slowest),
        ("definitions with their counts", f"{definitions:.2f} ms", ""),
    ]
    pages = await _pages(run)
    rows += [(f"GET /api/{page}, over HTTP: median", f"{took:.1f} ms", "") for page, took in pages.items()]
    return Result({"ms": seen, "definitions_ms": definitions, "pages_ms": pages}, rows)


async def best(call: Callable[[], Awaitable[object]]) -> float:
    """Milliseconds that a call took, the best of three."""
    seen = []
    for _ in range(3):
        begun = time.perf_counter()
        await call()
        seen.append((time.perf_counter() - begun) * 1000)
    return min(seen)


async def _pages(run: Run) -> dict[str, float]:
    home = run.directory / "pages"
    home.mkdir()
    (home / "receiver.db").symlink_to(long_ledger(run.directory, run.size))
    (home / "receiver.toml").write_text(SETTINGS)
    found = {}
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with (
        running(home) as server,
        httpx.AsyncClient(base_url=f"{server.url}/api", headers=headers, trust_env=False, timeout=30) as api,
    ):
        for page in PAGES:
            seen = []
            for _ in range(ASKED):
                begun = time.perf_counter()
                (await api.get(f"/{page}")).raise_for_status()
                seen.append((time.perf_counter() - begun) * 1000)
            found[page] = statistics.median(seen)
    return found
